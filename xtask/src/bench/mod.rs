//! `cargo xtask bench`: what the product costs before it does anything: the time until all hooks
//! are attached, the verifier's work, and the size of the binary; how fast it walks, and how fast it judges
//! logs.

mod log_speed;
mod long_file;
mod storm;
mod walk_cost;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::lab::{self, Cell, Cpu, KernelChoice, Options, matrix};
use crate::setup::kernels::DEBIAN;
use crate::setup::{Setup, packages};
use crate::{command, logs};

/// How often a start is timed.
const RUNS: usize = 5;

/// Prints a line `start attached versions-done` a run, in seconds of the machine's uptime, which
/// is the one clock that busybox and every other shell read alike. It ticks in hundredths, so the
/// short `--version` is called `$1` times in a row.
const TIMES: &str = r#"
now() { read -r up idle </proc/uptime; echo "$up"; }
for run in 1 2 3 4 5; do
    start=$(now)
    "$0" watch --dry-run >/dev/null || exit
    attached=$(now)
    count=0
    while [ $count -lt "$1" ]; do "$0" --version >/dev/null; count=$((count + 1)); done
    echo "times $start $attached $(now)"
done
"#;

/// `cargo xtask bench`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only how fast logs are judged
    #[arg(long)]
    logs: bool,
    /// Only what tracing costs under load, and whether it stands it
    #[arg(long, conflicts_with = "logs")]
    storm: bool,
    /// With --storm: how long ept-trace is watched at its fullest
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "storm")]
    seconds: u64,
}

/// Measures, and prints as it goes.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup::within_another_verb()?;
    let product = lab::prepare(&setup)?;
    let scratch = setup.cache.scratch("bench")?;
    if args.logs {
        print!("{}", log_speed::measure(&product, &logs::large(&setup)?, scratch.path())?);
        return Ok(ExitCode::SUCCESS);
    }

    if args.storm {
        packages::ensure(&setup, &packages::RECORDERS)?;
        let scratch = setup.cache.scratch("storm")?;
        print!("{}", storm::measure(&product, scratch.path(), args.seconds)?);
        return Ok(ExitCode::SUCCESS);
    }

    println!("start to attached, median of {RUNS}");
    println!("{:<14}{:>10}{:>22}", "", "seconds", "times `--version`");
    println!("{:<14}{}", "svm 6.12", times_in_lab(&product)?);
    println!("{:<14}{}", "this machine", times_here(&product)?);

    println!("\ninstructions that the verifier processed (bytes translated)");
    print!("{}", programs(&setup, &product)?);

    let size = fs::metadata(&product)?.len();
    println!("\nstatic binary: {size} bytes");

    println!("\na walk in the kernel, svm 6.12");
    print!("{}", walk_cost::measure(&product, scratch.path())?);
    println!("\nlogs of a million events, judged");
    print!("{}", log_speed::measure(&product, &logs::large(&setup)?, scratch.path())?);
    println!();
    let mut walks = Command::new("cargo");
    walks.args(["bench", "-q", "-p", "ept-trace", "--no-default-features", "--bench", "walks"]);
    let status = walks.status().context("cannot start `cargo bench`")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn times_in_lab(product: &Path) -> Result<String> {
    const CALLS: u32 = 20;
    let calls = CALLS.to_string();
    let command = ["sh", "-c", TIMES, "ept-trace", &calls];
    let cell = cell(Cpu::Svm, "6.12")?;
    let outcome = lab::run(&cell, &Options::new(&command, product.to_owned()))?;
    medians(&outcome.output, CALLS).with_context(|| {
        format!("`watch --dry-run` failed in the lab:\n{}", command::last_lines(&outcome.output, 5))
    })
}

/// This machine may not be one to watch on, which is no failure.
fn times_here(product: &Path) -> Result<String> {
    const CALLS: u32 = 200;
    let mut shell = Command::new("sh");
    shell.args(["-c", TIMES]).arg(product).arg(CALLS.to_string());
    let out = shell.output().context("cannot start `sh`")?;
    Ok(medians(&out.stdout, CALLS)
        .unwrap_or_else(|| format!("not measured: {}", command::last_lines(&out.stderr, 1))))
}

/// The table's cells for what [`TIMES`] printed; nothing if a run is missing.
fn medians(output: &[u8], calls: u32) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let run = |line: &str| {
        let mut words = line.strip_prefix("times ")?.split(' ').map(|word| word.parse().ok());
        let (start, attached, end): (f64, f64, f64) =
            (words.next()??, words.next()??, words.next()??);
        let version = (end - attached) / f64::from(calls);
        Some((attached - start, (attached - start) / version))
    };
    let runs: Vec<(f64, f64)> = text.lines().filter_map(run).collect();
    (runs.len() == RUNS).then(|| {
        let (seconds, ratios) = runs.into_iter().unzip();
        format!("{:>10.2}{:>22.0}", median(seconds), median(ratios))
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A line of `ept-trace programs`.
#[derive(Debug, Deserialize)]
struct Program {
    #[serde(rename = "program")]
    name: String,
    verified_instructions: Option<u64>,
    translated_bytes: Option<u64>,
    #[serde(default)]
    refused: Option<String>,
}

impl Program {
    /// Kernels before 5.16 do not count instructions.
    fn sizes(&self) -> String {
        let shown = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
        match self.refused {
            Some(_) => "refused".to_owned(),
            None => {
                format!("{} ({})", shown(self.verified_instructions), shown(self.translated_bytes))
            }
        }
    }
}

/// The table program by cell, for all kernels on SVM and one on VMX.
fn programs(setup: &Setup, product: &Path) -> Result<String> {
    let mut cells = Vec::new();
    for debian in DEBIAN {
        cells.push(cell(Cpu::Svm, debian.version)?);
    }
    cells.push(cell(Cpu::Vmx5, "6.12")?);
    let options = Options::new(&["ept-trace", "programs"], product.to_owned());
    let results = matrix::run_all(setup, &cells, &options, None, |_, _| {})?;
    let mut columns = Vec::new();
    for (cell, result) in cells.iter().zip(results) {
        let output = result?.output;
        let column = column(&output).with_context(|| {
            let said = command::last_lines(&output, 5);
            format!("`ept-trace programs` failed in {}:\n{said}", cell.file_name())
        })?;
        columns.push((cell.file_name(), column));
    }
    Ok(table(&columns))
}

fn cell(cpu: Cpu, kernel: &str) -> Result<Cell> {
    Ok(Cell { cpu, kernel: KernelChoice::parse(kernel, None)?.remove(0) })
}

fn column(output: &[u8]) -> Result<Vec<Program>> {
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}

fn table(columns: &[(String, Vec<Program>)]) -> String {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (at, (_, programs)) in columns.iter().enumerate() {
        for program in programs {
            let row = rows.entry(&program.name).or_insert_with(|| vec!["-".into(); columns.len()]);
            row[at] = program.sizes();
        }
    }
    let line = |name: &str, cells: Vec<&str>| {
        let cells: Vec<String> = cells.into_iter().map(|cell| format!("{cell:>15}")).collect();
        format!("{name:<22}{}\n", cells.concat())
    };
    let head = line("", columns.iter().map(|(name, _)| name.as_str()).collect());
    let rows =
        rows.iter().map(|(name, cells)| line(name, cells.iter().map(String::as_str).collect()));
    head + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_want_every_run() {
        let runs = "noise\ntimes 1.00 2.00 2.50\n".to_owned() + &"times 1.00 3.00 3.50\n".repeat(4);
        assert_eq!(
            medians(runs.as_bytes(), 1).as_deref(),
            Some("      2.00                     4")
        );
        assert_eq!(medians(b"times 1.00 2.00 2.50\n", 1), None);
    }

    #[test]
    fn a_program_that_one_kernel_lacks_leaves_a_dash() {
        let program = |name: &str| {
            let json = format!(
                r#"{{"program":"{name}","verified_instructions":null,"translated_bytes":8}}"#
            );
            column(json.as_bytes()).unwrap_or_default()
        };
        let columns = [("a".to_owned(), program("x")), ("b".to_owned(), program("y"))];
        let lines = table(&columns);
        let words: Vec<&str> = lines.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "x", "?", "(8)", "-", "y", "-", "?", "(8)"]);
    }

    #[test]
    fn a_refused_program_is_told_as_such() {
        let json = br#"{"program":"p","verified_instructions":null,"translated_bytes":null,"refused":"why"}"#;
        let programs = column(json).unwrap_or_default();
        assert_eq!(programs.first().map(Program::sizes).as_deref(), Some("refused"));
    }
}
