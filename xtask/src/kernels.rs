//! `cargo xtask kernels`: every cell of the lab is checked, and what was seen becomes the corpus of
//! the offline tests and the table in `docs/kernels.md`. All cells or nothing: a table with holes
//! would claim what nobody saw.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use ept_trace::model::EventKind;
use ept_trace::recording;

use crate::judged::{Report, Scenario};
use crate::lab::{self, Cell, Cpu, KernelChoice, Options, Outcome, matrix};
use crate::setup::Setup;
use crate::{command, document};

/// `cargo xtask kernels`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many cells to run side by side (default: one per core)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

const COMMAND: [&str; 3] = [
    "sh",
    "-c",
    "ept-trace check -j --reload --maxphyaddr 36,48,49,52 -o /out/events.ept >/out/check.jsonl
     code=$?
     ept-trace check -j --scenario nested --maxphyaddr 52 -o /out/nested.ept >/out/check-nested.jsonl \
         2>/out/nested.txt
     ept-trace check -j --scenario \
         memory,huge,readonly,slots,mmio,dirty-log,protect,high-gpa,churn,storm >/out/check-walks.jsonl \
         2>/out/walks.txt || code=$?
     exit $code",
];

/// A cell whose KVM has a bug, and the rule that must find it: see the notes in `docs/kernels.md`.
const NESTED_BUG: (&str, &str) = ("svm-5.10", "EPT503");

/// Fewer walks than this are not what the scenarios make.
const FEWEST_WALKS: u64 = 1000;

/// The cells whose nested guests are kept, one for EPT and one for NPT.
const KEEP_NESTED: [&str; 2] = ["svm-6.12", "vmx5-6.12"];

const HEAD: &str = "\
| CPU | Kernel | Decision | Decisions | Root level: MAXPHYADDR | Walks (raced) | L2 ran on an L1's table of levels | Hooks that fired | hardware_setup | Seconds |
|---|---|---|---|---|---|---|---|---|---|
";

const TIMES: &str = "
Seconds that each scenario of `check` took there, two cells side by side; what a cell cannot run is
skipped:

";

/// A cell that was checked and found right.
struct Checked {
    /// The table's row.
    row: String,
    /// What came of each scenario, and in how many seconds.
    times: Vec<(String, String)>,
    /// The corpus' files, and what goes there.
    corpus: Vec<(PathBuf, String)>,
}

/// Runs all cells; writes corpus and table if every one of them is right.
pub fn main(args: &Args) -> Result<ExitCode> {
    let kernels = KernelChoice::parse("all", None)?;
    let row = |cpu| kernels.iter().cloned().map(move |kernel| Cell { cpu, kernel });
    let cells: Vec<Cell> = Cpu::ALL.into_iter().flat_map(row).collect();

    let setup = Setup::within_another_verb()?;
    let product = lab::prepare(&setup)?;
    let scratch = setup.cache.scratch("kernels")?;
    let out = Some(scratch.path().to_owned());
    let options = Options { out, ..Options::new(&COMMAND, product) };
    let tell = |cell: &Cell, result: &Result<Outcome>| matrix::print(cell, result, false);
    let results = matrix::run_all(&setup, &cells, &options, args.jobs, tell)?;

    let (mut checked, mut faults) = (Vec::new(), Vec::new());
    for (cell, result) in cells.iter().zip(results) {
        let checked_cell = match result {
            Ok(outcome) => check(cell, &outcome, scratch.path()),
            Err(_) => Err(anyhow!("did not run to its end (see above)")),
        };
        match checked_cell {
            Ok(cell) => checked.push(cell),
            Err(error) => faults.push(format!("{}: {error:#}", cell.file_name())),
        }
    }
    if !faults.is_empty() {
        bail!("nothing is written, for not every cell is right:\n{}", faults.join("\n"));
    }
    write(&cells, &checked)?;
    Ok(ExitCode::SUCCESS)
}

/// A cell's row and corpus, if nothing is wrong with it.
fn check(cell: &Cell, outcome: &Outcome, out: &Path) -> Result<Checked> {
    let name = cell.file_name();
    let read = |file: &str| {
        let path = out.join(&name).join(file);
        fs::read_to_string(&path).with_context(|| format!("the cell left no {file}"))
    };
    if outcome.exit_code != 0 {
        bail!("exit code {}", outcome.exit_code);
    }
    // A suite that has moved on must not write another kernel's data under this one's name.
    let kernel = name.rsplit('-').next().unwrap_or_default();
    if !outcome.release.starts_with(&format!("{kernel}.")) {
        bail!("the kernel is {}, and not {kernel}", outcome.release);
    }
    let parse = |file: &str| Report::parse(&read(file)?);
    let (report, nested) = (parse("check.jsonl")?, parse("check-nested.jsonl")?);
    let walks = parse("check-walks.jsonl")?;
    if !walks.faults.is_empty() {
        bail!("scenarios: {}", walks.faults.join("; "));
    }
    if walks.walks < FEWEST_WALKS {
        bail!("only {} walks were seen", walks.walks);
    }
    if !report.faults.is_empty() {
        bail!("{}", report.faults.join("; "));
    }
    let (cell_with_bug, rule) = NESTED_BUG;
    let has_bug = name == cell_with_bug;
    let is_of_bug = |fault: &&String| has_bug && fault.starts_with(rule);
    if let Some(fault) = nested.faults.iter().find(|fault| !is_of_bug(fault)) {
        bail!("nested: {fault}");
    }
    if has_bug && nested.faults.is_empty() {
        bail!("nested: {rule} does not find the bug of this kernel");
    }
    let in_corpus = |file: String| command::repository().join("tests/corpus").join(file);
    let observed = |file| observations(&out.join(&name).join(file));
    let mut corpus = vec![(in_corpus(format!("{name}.jsonl")), observed("events.ept")?)];
    if KEEP_NESTED.contains(&name.as_str()) {
        corpus.push((in_corpus(format!("nested-{name}.jsonl")), observed("nested.ept")?));
    }
    let levels = levels_of_l1(&read("nested.txt")?);
    if !levels.contains(&4) {
        bail!("no L2 ran on an L1's table of 4 levels");
    }
    let runs = [&report, &walks, &nested];
    let scenarios = || runs.iter().flat_map(|run| &run.scenarios);
    let may_fail = |scenario: &Scenario| has_bug && scenario.name == "nested";
    if let Some(failed) = scenarios().find(|it| it.outcome == "failed" && !may_fail(it)) {
        bail!("the scenario {} failed", failed.name);
    }
    let times = scenarios().map(|scenario| (scenario.name.clone(), time(scenario))).collect();
    let row = table_row(cell, outcome, [&report, &nested, &walks], &levels)?;
    Ok(Checked { row, times, corpus })
}

/// In how many seconds a scenario passed, as the cell's own clock has it; or what else came of it.
fn time(scenario: &Scenario) -> String {
    let Scenario { outcome, seconds, .. } = scenario;
    match outcome.as_str() {
        "passed" => format!("{seconds:.1}"),
        "skipped" => outcome.clone(),
        _ => format!("{seconds:.1}, {outcome}"),
    }
}

/// The times of all scenarios, a row for each cell.
fn table_of_times(cells: &[Cell], checked: &[Checked]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in checked.iter().flat_map(|cell| &cell.times) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let row = |(cell, checked): (&Cell, &Checked)| {
        let name = cell.file_name();
        let kernel = name.rsplit('-').next().unwrap_or_default();
        let time = |name: &&str| {
            let found = checked.times.iter().find(|(of, _)| of == name);
            found.map_or("-", |(_, time)| time)
        };
        let times: Vec<_> = names.iter().map(time).collect();
        format!("| {} | {kernel} | {} |\n", cell.cpu.name(), times.join(" | "))
    };
    let rows: String = cells.iter().zip(checked).map(row).collect();
    let (head, line) = (names.join(" | "), "---|".repeat(names.len() + 2));
    format!("| CPU | Kernel | {head} |\n|{line}\n{rows}")
}

/// What a recording holds, as JSON lines.
fn observations(path: &Path) -> Result<String> {
    let cannot = || path.display().to_string();
    let events =
        recording::read_all(File::open(path).with_context(cannot)?).with_context(cannot)?;
    let mut lines = String::new();
    for event in events {
        if let EventKind::Gap { reason } = event.kind {
            bail!("{}: {reason}", cannot());
        }
        lines += &serde_json::to_string(&event)?;
        lines.push('\n');
    }
    Ok(lines)
}

/// The levels of L1's tables on which an L2 ran to its end: those that no case speaks against.
fn levels_of_l1(told: &str) -> BTreeSet<u8> {
    let has_run = told.contains("scenario nested: ");
    let speaks_against = |levels: &u8| told.contains(&format!(", {levels} levels: "));
    [4, 5].into_iter().filter(|levels| has_run && !speaks_against(levels)).collect()
}

fn table_row(
    cell: &Cell,
    outcome: &Outcome,
    [report, nested, walks]: [&Report; 3],
    levels_of_l1: &BTreeSet<u8>,
) -> Result<String> {
    let facts = report.facts.as_ref().context("no facts of a loaded KVM were seen")?;
    let summary = report.summary.as_ref().context("the run has no summary")?;
    if report.hardware_setups.is_empty() {
        bail!("hardware_setup was not seen");
    }
    let cells = [
        cell.cpu.name().to_owned(),
        outcome.release.clone(),
        facts.behaviour.era().to_string(),
        summary.decisions.to_string(),
        levels(report),
        format!("{} ({})", walks.walks, walks.raced),
        levels_of_l1.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
        hooks(&[report, nested, walks]),
        format!("`{}`", report.hardware_setups.join("`, `")),
        format!("{:.0}", outcome.total_time.as_secs_f64()),
    ];
    Ok(format!("| {} |\n", cells.join(" | ")))
}

/// `4: 36 48; 5: 49 52`
fn levels(report: &Report) -> String {
    let level = |(level, bits): (u8, BTreeSet<u32>)| {
        let bits: Vec<String> = bits.iter().map(u32::to_string).collect();
        format!("{level}: {}", bits.join(" "))
    };
    report.by_level().into_iter().map(level).collect::<Vec<_>>().join("; ")
}

/// The hooks that fired in any of the runs; `hardware_setup` has a column of its own.
fn hooks(runs: &[&Report]) -> String {
    let runs = runs.iter().filter_map(|run| run.summary.as_ref());
    let fired = runs.flat_map(|run| &run.hooks).filter(|hook| hook.fired > 0);
    let names =
        fired.map(|hook| hook.hook.as_str()).filter(|name| !name.contains("hardware_setup"));
    let names: BTreeSet<String> = names.map(|name| format!("`{name}`")).collect();
    Vec::from_iter(names).join(", ")
}

fn write(cells: &[Cell], checked: &[Checked]) -> Result<()> {
    let table: String = checked.iter().map(|cell| cell.row.as_str()).collect();
    let times = table_of_times(cells, checked);
    // First what can still be refused.
    let document = document::renewed(
        "docs/kernels.md",
        "Kernels",
        "cells",
        &format!("{HEAD}{table}{TIMES}{times}"),
    )?;
    let files = checked.iter().flat_map(|cell| &cell.corpus);
    for (path, text) in files.chain([&document]) {
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(path)).with_context(cannot)?;
        fs::write(path, text).with_context(cannot)?;
    }
    println!("written: tests/corpus ({} files), docs/kernels.md", checked.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_an_l1_are_those_that_ran() {
        let ended = "ept-trace: scenario nested: passed (1 of 2 passed)\n";
        let told = format!("{ended}  MAXPHYADDR 52, 5 levels: skipped: x\n");
        assert_eq!(levels_of_l1(ended), BTreeSet::from([4, 5]));
        assert_eq!(levels_of_l1(&told), BTreeSet::from([4]));
        assert!(levels_of_l1("").is_empty());
    }

    #[test]
    fn a_scenario_has_a_column_and_what_came_of_it() {
        let line = |name, outcome| {
            format!(
                r#"{{"type":"scenario","scenario":"{name}","outcome":"{outcome}","seconds":1.25,"mismatches":0,"command":""}}"#
            )
        };
        let text = [line("huge", "passed"), line("mmio", "skipped"), line("nested", "failed")];
        let report = Report::parse(&text.join("\n")).unwrap_or_default();
        let times: Vec<_> = report.scenarios.iter().map(time).collect();
        assert_eq!(times, ["1.2", "skipped", "1.2, failed"]);
    }

    #[test]
    fn levels_and_hooks_are_short() {
        let line = |bits, level| {
            format!(
                r#"{{"type":"decision","maxphyaddr":{bits},"root_level":{level},"verdict":"ok"}}"#
            )
        };
        let hook = |name: &str, fired| {
            format!(
                r#"{{"hook":"{name}","fired":{fired},"delivered":{fired},"filtered":0,"dropped":0,"missed":0}}"#
            )
        };
        let counts =
            [hook("kvm_init_mmu", 2), hook("kvm_amd:svm_hardware_setup", 1), hook("unused", 0)];
        let summary = format!(
            r#"{{"type":"summary","decisions":2,"lost":0,"hooks":[{}]}}"#,
            counts.join(",")
        );
        let text = [line(52, 5), line(36, 4), line(48, 4), summary].join("\n");
        let report = Report::parse(&text).unwrap_or_default();
        assert_eq!(levels(&report), "4: 36 48; 5: 52");
        assert_eq!(hooks(&[&report]), "`kvm_init_mmu`");
    }
}
