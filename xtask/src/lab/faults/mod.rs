//! `cargo xtask lab --faults`: every detector is shown a fault.
//!
//! In each cell the same command runs three times: as all is well, after the kernel's memory was
//! poked, and after the poke was taken back. Found must be exactly the fault, exactly then.

mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::rows::{Change, FAULTS, Fault, NO_POKES, Seed, WITHOUT};
use super::{Cell, Cpu, KernelChoice, Options, matrix, run};
use crate::judged::Report;
use crate::setup::Setup;
use crate::{FAILURE, document};

/// What runs three times. A guest whose tables are broken may fault for ever, so it is given up.
const CHECK: &str = "ept-trace check -j --maxphyaddr 36 --vcpus 1 --patience 5";
/// What begins a line of the script's own.
const MARK: &str = "faults: ";

/// One fault in one cell.
struct Scenario<'a> {
    fault: &'static Fault,
    seed: &'static Seed,
    cell: &'a Cell,
}

/// Runs every fault in every one of `cells`; exit code 0 if each was found, and nothing else.
pub fn main(
    setup: &Setup,
    cells: &[Cell],
    options: &Options,
    jobs: Option<usize>,
    write_docs: bool,
) -> Result<ExitCode> {
    if write_docs && !is_every_cell(cells) {
        bail!("--write-docs wants every cell: --cpu all --kernel all");
    }
    let scenarios = scenarios(cells);
    let (with_seeds, without): (Vec<&Cell>, _) =
        cells.iter().partition(|cell| scenarios.iter().any(|one| one.cell == *cell));
    for cell in without {
        println!("{cell}  left out: {NO_POKES}");
    }
    // Here, one after the other: fetching from several threads would garble what setup tells.
    for cell in with_seeds {
        cell.kernel.ensure(setup)?;
    }
    let work = |scenario: &Scenario<'_>| scenario.run(options);
    let tell = |scenario: &Scenario<'_>, result: &Result<()>| {
        let Scenario { fault, cell, .. } = scenario;
        let (Fault { rule, what, .. }, said) = (fault, told(result));
        println!("{rule}  {cell}  {said}  {what}");
        if let Err(error) = result {
            println!("{}", matrix::indented(&format!("{error:#}")));
        }
    };
    let results = matrix::side_by_side(&scenarios, jobs, work, tell);

    let table = table(cells, &scenarios, &results);
    println!("\n{table}");
    let failed = results.iter().filter(|result| result.is_err()).count();
    println!("{} of {} faults found", results.len() - failed, results.len());
    if failed > 0 || results.is_empty() {
        return Ok(ExitCode::from(FAILURE));
    }
    if write_docs {
        let (path, text) = document::renewed("docs/rules.md", "Rules", "faults", &table)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: docs/rules.md");
    }
    Ok(ExitCode::SUCCESS)
}

fn told(result: &Result<()>) -> &'static str {
    if result.is_ok() { "found " } else { "FAILED" }
}

fn is_every_cell(cells: &[Cell]) -> bool {
    let kernels = KernelChoice::parse("all", None).unwrap_or_default();
    let is_in = |cpu, kernel: &KernelChoice| {
        cells.iter().any(|cell| cell.cpu == cpu && cell.kernel == *kernel)
    };
    Cpu::ALL.into_iter().all(|cpu| kernels.iter().all(|kernel| is_in(cpu, kernel)))
}

fn scenarios(cells: &[Cell]) -> Vec<Scenario<'_>> {
    let of_cell = |cell| {
        let scenario = move |fault: &'static Fault| {
            fault.seed(cell).ok().map(|seed| Scenario { fault, seed, cell })
        };
        FAULTS.iter().filter_map(scenario)
    };
    cells.iter().flat_map(of_cell).collect()
}

impl Scenario<'_> {
    fn run(&self, options: &Options) -> Result<()> {
        let command = ["sh", "-c", &self.script()].map(str::to_owned).to_vec();
        let options = Options { command, pokes: true, ..options.clone() };
        let outcome = run(self.cell, &options)?;
        let output = String::from_utf8_lossy(&outcome.output);
        self.judge(&output).with_context(|| format!("the cell printed:\n{output}"))
    }

    fn script(&self) -> String {
        let changes = self.seed.changes.iter();
        let pokes: Vec<String> = changes.clone().map(|change| poke(change, false)).collect();
        let back: Vec<String> = changes.map(|change| poke(change, true)).collect();
        [("before", vec![]), ("poked", pokes), ("taken back", back)]
            .map(|(phase, pokes)| {
                let pokes = pokes.concat();
                format!("{pokes}echo '{MARK}{phase}'\n{CHECK} 2>&1\necho \"{MARK}exit $?\"\n")
            })
            .concat()
    }

    /// Whether the fault was found while it was there, and nothing else, and never else.
    fn judge(&self, output: &str) -> Result<()> {
        let phases = phases(output);
        for name in ["before", "poked", "taken back"] {
            let phase = phases.get(name).with_context(|| format!("nothing ran {name}"))?;
            let judged = if name == "poked" {
                found(self.fault, phase)
            } else {
                silent(self.fault.rule, phase)
            };
            judged.with_context(|| name.to_owned())?;
        }
        Ok(())
    }
}

/// The line of a script that makes a change, or takes it back; with its failure the script ends.
fn poke(change: &Change, back: bool) -> String {
    let Change { symbol, within, old, new } = change;
    let (old, new) = if back { (new, old) } else { (old, new) };
    format!("poke {symbol} {within} {old} {new} || exit 2\n")
}

/// What one run of the command came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Phase {
    /// Its exit code.
    code: Option<i32>,
    /// What it printed as JSON.
    json: String,
}

fn phases(output: &str) -> BTreeMap<&str, Phase> {
    let mut phases: BTreeMap<&str, Phase> = BTreeMap::new();
    let mut current = "";
    for line in output.lines() {
        let own = line.strip_prefix(MARK);
        if let Some(code) = own.and_then(|own| own.strip_prefix("exit ")) {
            phases.entry(current).or_default().code = code.parse().ok();
        } else if let Some(name) = own {
            current = name;
        } else if line.starts_with('{') {
            let phase = phases.entry(current).or_default();
            phase.json.extend([line, "\n"]);
        }
    }
    phases
}

/// The rule has judged, all verdicts are ok, and so is the exit code.
fn silent(rule: &str, phase: &Phase) -> Result<()> {
    if phase.code != Some(0) {
        bail!("exit code {:?} and not 0", phase.code);
    }
    let report = Report::parse(&phase.json)?;
    if !report.faults.is_empty() {
        bail!("not silent: {}", report.faults.join("; "));
    }
    let has_judged = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["rules"][rule] == "ok"
    };
    if !phase.json.lines().any(has_judged) {
        bail!("{rule} has judged nothing");
    }
    Ok(())
}

/// The rule has found a mismatch and named both values, no other rule has found anything, and the
/// exit code tells of it.
fn found(fault: &Fault, phase: &Phase) -> Result<()> {
    if phase.code != Some(1) {
        bail!("exit code {:?} and not 1", phase.code);
    }
    let mut has_found = false;
    for line in phase.json.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["type"] != "finding" {
            continue;
        }
        let rule = line["rule"].as_str().unwrap_or_default();
        let is_mismatch = line["verdict"] == "mismatch";
        if rule == fault.rule && is_mismatch {
            if let Some(value) = fault.values.iter().find(|value| !names(&line, value)) {
                bail!("the evidence does not name {value}: {line}");
            }
            has_found = true;
        } else if !fault.also.contains(&rule) || !is_mismatch {
            bail!("found what was not seeded: {line}");
        }
    }
    if !has_found {
        bail!("{} found nothing", fault.rule);
    }
    Ok(())
}

/// Whether a finding's evidence has `value`.
fn names(finding: &Value, value: &str) -> bool {
    let evidence = finding["evidence"].as_array();
    evidence.is_some_and(|evidence| evidence.iter().any(|piece| piece["value"] == value))
}

/// Rule by CPU, with the kernels in which the fault was found; and why others are left out.
fn table(cells: &[Cell], scenarios: &[Scenario<'_>], results: &[Result<()>]) -> String {
    let of_cpu = |cpu: Cpu| cells.iter().filter(move |cell| cell.cpu == cpu);
    let cpus: Vec<Cpu> = Cpu::ALL.into_iter().filter(|cpu| of_cpu(*cpu).next().is_some()).collect();
    let names: Vec<&str> = cpus.iter().map(|cpu| cpu.name()).collect();
    let mut table = format!("| Rule | Fault | {} |\n", names.join(" | "));
    let _ = writeln!(table, "|---|---|{}", "---|".repeat(cpus.len()));
    for fault in FAULTS {
        let _ = write!(table, "| {} | {} |", fault.rule, fault.what);
        for cpu in &cpus {
            let ran = scenarios.iter().zip(results).filter(|(scenario, _)| {
                std::ptr::eq(scenario.fault, fault) && scenario.cell.cpu == *cpu
            });
            let kernels: Vec<String> = ran
                .map(|(scenario, result)| {
                    let kernel = scenario.cell.kernel.name();
                    if result.is_ok() { kernel } else { format!("**not** {kernel}") }
                })
                .collect();
            let kernels = if kernels.is_empty() { "–".to_owned() } else { kernels.join(", ") };
            let _ = write!(table, " {kernels} |");
        }
        table.push('\n');
    }
    table.push_str("\nLeft out:\n\n");
    for cpu in &cpus {
        if of_cpu(*cpu).all(|cell| FAULTS.iter().all(|fault| fault.seed(cell) == Err(NO_POKES))) {
            let _ = writeln!(table, "- {}: {NO_POKES}.", cpu.name());
            continue;
        }
        for cell in of_cpu(*cpu) {
            for (fault, why) in FAULTS.iter().filter_map(|one| Some((one, one.seed(cell).err()?))) {
                let kernel = cell.kernel.name();
                let _ = writeln!(table, "- {} on {} {kernel}: {why}.", fault.rule, cpu.name());
            }
        }
    }
    for (rule, why) in WITHOUT {
        let _ = writeln!(table, "- {rule}: {why}.");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = r#"{"type":"setup","what":"facts","verdict":"ok","rules":{"EPT104":"ok"}}"#;
    const FOUND: &str = r#"{"type":"finding","rule":"EPT104","verdict":"mismatch","message":"x","evidence":[{"value":"4"},{"value":"5"}]}"#;

    fn phase(code: i32, lines: &[&str]) -> Phase {
        Phase { code: Some(code), json: lines.iter().flat_map(|line| [*line, "\n"]).collect() }
    }

    fn fault() -> &'static Fault {
        FAULTS.iter().find(|fault| fault.rule == "EPT104").unwrap_or(&FAULTS[0])
    }

    #[test]
    fn phases_are_told_apart() {
        let output = format!(
            "{MARK}before\n{OK}\nept-trace: words\n{MARK}exit 0\npoke: x\n{MARK}poked\n{FOUND}\n{MARK}exit 1\n"
        );
        let expected = BTreeMap::from([("before", phase(0, &[OK])), ("poked", phase(1, &[FOUND]))]);
        assert_eq!(phases(&output), expected);
    }

    #[test]
    fn silence_is_a_rule_that_judged_and_said_ok() {
        assert!(silent("EPT104", &phase(0, &[OK])).is_ok());
        assert!(silent("EPT105", &phase(0, &[OK])).is_err(), "has not judged");
        assert!(silent("EPT104", &phase(1, &[OK])).is_err(), "exit code");
        assert!(silent("EPT104", &phase(0, &[OK, FOUND])).is_err(), "a finding");
    }

    #[test]
    fn the_fault_and_nothing_else_is_found() {
        assert!(found(fault(), &phase(1, &[FOUND])).is_ok());
        assert!(found(fault(), &phase(0, &[FOUND])).is_err(), "exit code");
        assert!(found(fault(), &phase(1, &[OK])).is_err(), "nothing found");
        for other in [
            FOUND.replace("EPT104", "EPT103"),
            FOUND.replace("mismatch", "undetermined"),
            FOUND.replace("\"5\"", "\"6\""),
        ] {
            assert!(found(fault(), &phase(1, &[FOUND, &other])).is_err(), "{other}");
        }
    }

    #[test]
    fn a_change_is_taken_back_by_its_reverse() {
        let change = Change { symbol: "x", within: 2, old: "0a", new: "0b" };
        assert_eq!(poke(&change, false), "poke x 2 0a 0b || exit 2\n");
        assert_eq!(poke(&change, true), "poke x 2 0b 0a || exit 2\n");
    }
}
