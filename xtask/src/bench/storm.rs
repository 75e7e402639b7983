//! `cargo xtask bench --storm`: what tracing costs a host under load. The storm of `check` alone, and
//! with one tracer after the other, in one boot of the lab; and ept-trace at its fullest for as long as
//! is asked for, with its memory and whether its counts add up.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ept_trace::analysis::{HookCounts, Summary};

use super::cell;
use crate::command;
use crate::lab::{self, Cpu, Options};

/// What runs in the guest, and tells.
const SCRIPT: &str = include_str!("../../lab/storm.sh");
/// How long each storm takes in each of the rounds, in seconds.
const SHORT: u64 = 7;
/// Booting, attaching, and the rounds.
const REST: Duration = Duration::from_mins(10);
/// CPUs of the guest.
const CPUS: u32 = 2;

/// The storms of all rounds that somebody watched.
#[derive(Debug, Default)]
struct Storms {
    /// Accesses of the zapped VM's vCPUs, other VMs that came and went, and the time in seconds.
    done: (f64, f64, f64),
    /// What the tracer says that it has lost.
    lost: Option<u64>,
    /// The tracer's memory at the most, in KiB, after so many seconds.
    memory: Vec<(u64, u64)>,
    /// The worst exit code of `ept-trace watch`, and what it counted.
    exit: Option<i32>,
    hooks: Vec<HookCounts>,
}

/// The lines to print.
pub fn measure(product: &Path, scratch: &Path, seconds: u64) -> Result<String> {
    let (short, long) = (SHORT.to_string(), seconds.to_string());
    let command = ["sh", "-c", SCRIPT, "storm", &short, &long];
    let mut options = Options::new(&command, product.to_owned());
    options.smp = CPUS;
    options.timeout = REST + Duration::from_secs(seconds);
    let mut notes = String::new();
    for tool in ["trace-cmd", "bpftrace"] {
        match command::find(tool) {
            Some(tool) => options.add.push(lab::pack(&tool, scratch)?),
            None => writeln!(notes, "{tool}: not installed, so not compared")?,
        }
    }
    for script in ["walk.bt", "storm.bt"] {
        options.add.push(command::repository().join("xtask/lab").join(script));
    }
    let outcome = lab::run(&cell(Cpu::Svm, "6.12")?, &options)?;
    let output = String::from_utf8_lossy(&outcome.output);
    let said = || format!("the storm failed:\n{}", command::last_lines(&outcome.output, 10));
    if outcome.exit_code != 0 {
        bail!(said());
    }
    let storms = parse(&output).with_context(said)?;
    Ok(table(&storms).with_context(said)? + &notes)
}

/// In the order in which they were.
fn parse(output: &str) -> Option<Vec<(String, Storms)>> {
    let mut all: Vec<(String, Storms)> = Vec::new();
    for line in output.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(what), Some(who), Some(rest)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !["storm", "lost", "memory", "exit", "summary"].contains(&what) {
            continue;
        }
        let known = all.iter().position(|(name, _)| name == who);
        let at = known.unwrap_or_else(|| {
            all.push((who.to_owned(), Storms::default()));
            all.len() - 1
        });
        let storms = &mut all[at].1;
        match what {
            "storm" => {
                let mut numbers = rest.split(' ').map(str::parse::<f64>);
                let mut next = || numbers.next()?.ok();
                let (accesses, vms, seconds) = (next()?, next()?, next()?);
                let done = storms.done;
                storms.done = (done.0 + accesses, done.1 + vms, done.2 + seconds);
            }
            "lost" => storms.lost = Some(storms.lost.unwrap_or(0) + rest.parse::<u64>().ok()?),
            "memory" => {
                let (after, memory) = rest.split_once(' ')?;
                storms.memory.push((after.parse().ok()?, memory.parse().ok()?));
            }
            "exit" => storms.exit = storms.exit.max(Some(rest.parse().ok()?)),
            _ => storms.hooks.extend(serde_json::from_str::<Summary>(rest).ok()?.hooks),
        }
    }
    Some(all)
}

fn table(all: &[(String, Storms)]) -> Result<String> {
    let speeds = |(accesses, vms, seconds): (f64, f64, f64)| (accesses / seconds, vms / seconds);
    let alone = all.iter().find(|(who, _)| who == "alone").context("no storm alone")?;
    let (accesses_alone, vms_alone) = speeds(alone.1.done);
    let mut lines = format!(
        "{:<24}{:>12}{:>8}{:>8}{:>8}{:>10}{:>10}{:>12}{:>9}{:>6}\n",
        "", "accesses/s", "ratio", "VMs/s", "ratio", "lost", "calls/s", "records/s", "KiB", "exit"
    );
    for (who, storms) in all {
        let (accesses, vms) = speeds(storms.done);
        if let Some(hook) = storms.hooks.iter().find(|hook| !hook.adds_up()) {
            bail!("{who}: the counts of {} do not add up: {hook:?}", hook.hook);
        }
        let sum = |count: fn(&HookCounts) -> u64| {
            (!storms.hooks.is_empty()).then(|| storms.hooks.iter().map(count).sum::<u64>())
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate, of which three digits matter")]
        let rate = |count: Option<u64>| count.map(|count| (count as f64 / storms.done.2).round());
        writeln!(
            lines,
            "{who:<24}{accesses:>12.0}{:>8.2}{vms:>8.1}{:>8.2}{:>10}{:>10}{:>12}{:>9}{:>6}",
            accesses / accesses_alone,
            vms / vms_alone,
            shown(storms.lost.or_else(|| sum(HookCounts::lost))),
            shown(rate(sum(|hook| hook.fired))),
            shown(rate(sum(|hook| hook.delivered))),
            shown(storms.memory.iter().map(|(_, memory)| memory).max()),
            shown(storms.exit),
        )?;
    }
    if let Some((who, storms)) = all.last().filter(|(_, storms)| !storms.memory.is_empty()) {
        let at = storms.memory.iter().map(|(after, memory)| format!(" {after} s: {memory}"));
        writeln!(lines, "{who}: peak memory in KiB after{}", at.collect::<String>())?;
    }
    Ok(lines)
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "noise of others\nstorm alone 500 10 1.00\nmemory watch 1 100\n\
                          memory watch 2 110\nexit watch 3\nstorm watch 500 10 2.00\n\
                          storm alone 500 10 1.00\n";

    fn summary(delivered: u64) -> String {
        format!(
            r#"summary watch {{"decisions":1,"walks":0,"mismatches":0,"undetermined":0,"advisories":0,"lost":2,"gaps":0,"hooks":[{{"hook":"h","fired":9,"delivered":{delivered},"filtered":1,"dropped":2,"missed":0}}]}}"#
        )
    }

    #[test]
    fn speeds_are_held_against_the_storms_alone() {
        let storms = parse(&(OUTPUT.to_owned() + &summary(6))).unwrap();
        let table = table(&storms).unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["alone", "500", "1.00", "10.0", "1.00", "-", "-", "-", "-", "-"]);
        assert_eq!(rows[2], ["watch", "250", "0.50", "5.0", "0.50", "2", "5", "3", "110", "3"]);
        assert!(table.ends_with("watch: peak memory in KiB after 1 s: 100 2 s: 110\n"), "{table}");
    }

    #[test]
    fn counts_that_do_not_add_up_are_no_result() {
        let storms = parse(&(OUTPUT.to_owned() + &summary(7))).unwrap();
        assert!(table(&storms).unwrap_err().to_string().contains("do not add up"));
        assert!(parse("storm alone many 20 2.00\n").is_none());
        assert!(table(&[]).is_err());
    }
}
