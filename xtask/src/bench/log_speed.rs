//! How fast logs are judged: beside the tools that print them, on the same recording of a million
//! events, in turns of which the fastest counts; and what a very long one takes.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::long_file;
use crate::command;

/// How often each is timed; and what is over before another process has come and gone.
const TURNS: usize = 5;
const TURNS_OF_TEXT: usize = 20;
/// How many lines of the recording a log has, and how often.
const LONG: [(usize, usize); 4] =
    [(100_000, 1), (usize::MAX, 1), (usize::MAX, 9), (usize::MAX, 87)];

/// The lines to print, of the recording in `dir`. The long file is written to `scratch`.
pub fn measure(product: &Path, dir: &Path, scratch: &Path) -> Result<String> {
    let facts = command::repository().join("tests/corpus/logs/svm-6.12/facts.json");
    let analyze = |file: &str| {
        let mut ours = Command::new(product);
        ours.arg("analyze").arg(dir.join(file)).arg("--kernel-facts").arg(&facts);
        ours
    };
    let print = |words: &[&str], file: &str| {
        let mut theirs = Command::new(words[0]);
        theirs.args(&words[1..]).arg(dir.join(file));
        theirs
    };
    let mut lines = format!("{:<18}{:>12}{:>26}{:>8}\n", "", "seconds", "", "times");
    for (file, name, words) in [
        ("trace.dat", "trace-cmd report", &["trace-cmd", "report"][..]),
        ("trace.zstd.dat", "trace-cmd report", &["trace-cmd", "report"]),
        ("perf.data", "perf script", &["perf", "script", "-i"]),
    ] {
        let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
        for _ in 0..TURNS {
            ours = ours.min(seconds(&mut analyze(file))?);
            theirs = theirs.min(seconds(&mut print(words, file))?);
        }
        // To a String nothing can fail.
        let _ = writeln!(
            lines,
            "{file:<18}{ours:>12.3}{:>26}{:>8.1}",
            format!("{name} {theirs:.3}"),
            theirs / ours
        );
    }
    // `wc -l` looks for the ends of lines, and for nothing else.
    let (mut ours, mut scan) = (f64::MAX, f64::MAX);
    for _ in 0..TURNS_OF_TEXT {
        ours = ours.min(seconds(&mut analyze("report.txt"))?);
        scan = scan.min(seconds(&mut print(&["wc", "-l"], "report.txt"))?);
    }
    let _ = writeln!(
        lines,
        "{:<18}{ours:>12.3}{:>26}{:>8.2}",
        "report.txt",
        format!("wc -l {scan:.3}"),
        scan / ours
    );
    lines.push_str(&long(product, dir)?);
    lines.push_str(&long_file(product, dir, scratch)?);
    Ok(lines)
}

/// Exit codes tell of the judgement, which is not what is measured; but it must have ended.
fn seconds(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let name = command.get_program().display();
    let status = status.with_context(|| format!("cannot start {name}"))?;
    if status.code().is_none() {
        bail!("{name} was killed");
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The same lines again and again, through a pipe.
fn long(product: &Path, dir: &Path) -> Result<String> {
    let whole = fs::read(dir.join("report.txt"))?;
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &whole).map(|end| end + 1).collect();
    let mut lines =
        format!("\n{:<18}{:>12}{:>14}{:>14}\n", "lines", "GiB", "ns a line", "peak MiB");
    for (most, times) in LONG {
        let events = ends.len().min(most);
        let text = &whole[..events.checked_sub(1).map_or(0, |last| ends[last])];
        let begun = Instant::now();
        let mut child = Command::new(product)
            .args(["analyze", "-", "--npt", "5"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start ept-trace")?;
        let mut input = child.stdin.take().context("it has no standard input")?;
        let peak = thread::scope(|scope| {
            scope.spawn(move || (0..times).try_for_each(|_| input.write_all(text)));
            peak(&mut child)
        })?;
        #[expect(clippy::cast_precision_loss, reason = "only shown")]
        let (all, gib) = ((events * times) as f64, (text.len() * times) as f64 / 1024_f64.powi(3));
        let each = begun.elapsed().as_secs_f64() * 1e9 / all;
        let _ = writeln!(lines, "{all:<18}{gib:>12.1}{each:>14.0}{peak:>14}");
    }
    Ok(lines)
}

/// A trace.dat of more than 4 GiB.
fn long_file(product: &Path, dir: &Path, scratch: &Path) -> Result<String> {
    const BYTES: usize = 4 << 30;
    let (file, from) = (scratch.join("long.dat"), dir.join("trace.dat"));
    let times = long_file::write(&from, &file, BYTES)?;
    let events = |path: &Path| -> Result<u64> {
        let out = Command::new(product).arg("analyze").arg(path).arg("--npt=5").output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        let told = text.split(" observations").next().and_then(|head| head.rsplit(' ').next());
        told.and_then(|number| number.parse().ok()).context("it does not tell how much it has seen")
    };
    let (seen, of_one) = (events(&file)?, events(&from)?);
    if seen < of_one * times as u64 / 2 {
        bail!("{seen} observations of {times} times {of_one}: the file was not read to its end");
    }
    let begun = Instant::now();
    let mut child = Command::new(product)
        .arg("analyze")
        .arg(&file)
        .arg("--npt=5")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start ept-trace")?;
    let peak = peak(&mut child)?;
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let gib = fs::metadata(&file)?.len() as f64 / 1024_f64.powi(3);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(format!(
        "\ntrace.dat of {gib:.1} GiB: {seconds:.1} s, {seen} observations, peak {peak} MiB\n"
    ))
}

/// The most memory that a process had until its end, in MiB.
fn peak(child: &mut Child) -> Result<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) / 1024);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(most)
}
