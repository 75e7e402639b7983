//! `cargo xtask lab --faults`: every detector is shown a fault.
//!
//! Each cell is booted once. The same command runs as all is well, after a fault was seeded, and
//! after that was taken back; then comes the next fault. Found must be exactly the fault, exactly
//! then.

mod boot;
mod fault;
mod judge;
mod module;
mod rows;
mod script;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};

use self::fault::{Fault, Seed};
use self::rows::WITHOUT;
use super::{Cell, Cpu, KernelChoice, Options, matrix};
use crate::setup::{Setup, bochs};
use crate::{FAILURE, command, document};

/// One fault, as a cell has it.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    fault: &'static Fault,
    seed: &'static Seed,
}

/// What came of one fault in one cell.
struct Outcome<'a> {
    scenario: Scenario,
    cell: &'a Cell,
    result: Result<()>,
}

/// Runs every fault of these `rules`, or of all if there are none, in every one of `cells`; exit code
/// 0 if each was found, and nothing else.
pub fn main(
    setup: &Setup,
    cells: &[Cell],
    options: &Options,
    jobs: Option<usize>,
    rules: &[String],
    write_docs: bool,
) -> Result<ExitCode> {
    if write_docs && !is_every_cell(cells) {
        bail!("--write-docs wants every cell: --cpu all --kernel all");
    }
    every_rule_is_here(options.product.as_deref().context("faults are for ept-trace to find")?)?;
    // Here, one after the other: fetching from several threads would garble what setup tells.
    for cell in cells {
        cell.kernel.ensure(setup)?;
        if cell.cpu.module() == "kvm_intel" {
            bochs::ensure(setup)?;
        }
    }
    let work = |cell: &Cell| boot::faults(setup, cell, rules, options);
    let tell = |cell: &Cell, results: &Vec<(Scenario, Result<()>)>| {
        for (Scenario { fault, .. }, result) in results {
            let said = if result.is_ok() { "found " } else { "FAILED" };
            println!("{}  {cell}  {said}  {}", fault.rule, fault.what);
            if let Err(error) = result {
                println!("{}", matrix::indented(&format!("{error:#}")));
            }
        }
    };
    let results = matrix::side_by_side(cells, jobs, work, tell);
    let of_cell = |(cell, results): (_, Vec<(Scenario, Result<()>)>)| {
        results.into_iter().map(move |(scenario, result)| Outcome { scenario, cell, result })
    };
    let outcomes: Vec<Outcome<'_>> = cells.iter().zip(results).flat_map(of_cell).collect();

    let table = table::table(cells, &outcomes);
    println!("\n{table}");
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    println!("{} of {} faults found", outcomes.len() - failed, outcomes.len());
    if failed > 0 || outcomes.is_empty() {
        return Ok(ExitCode::from(FAILURE));
    }
    if write_docs {
        let (path, text) = document::renewed("docs/rules.md", "Rules", "faults", &table)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: docs/rules.md");
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands around a recording of a fault.
#[derive(Debug)]
pub struct Seeding {
    /// Seeds it.
    pub there: String,
    /// Takes it back.
    pub back: String,
    /// The guest whose own entries are changed meanwhile, where that is the fault.
    pub guest: Option<String>,
}

/// How the first fault of `rule` is seeded in `cell`.
pub fn seeding(rule: &str, cell: &Cell) -> Result<Seeding> {
    let fault = rows::all().find(|fault| fault.rule == rule);
    let fault = fault.with_context(|| format!("no fault of {rule}"))?;
    let seed = fault.seed(cell).map_err(|why| anyhow!("{rule} in {cell}: {why}"))?;
    Ok(script::seeding_of(fault, seed))
}

/// `fault` in `cell`, if it is seeded there.
fn seeded(fault: &'static Fault, cell: &Cell) -> Option<Scenario> {
    fault.seed(cell).ok().map(|seed| Scenario { fault, seed })
}

fn is_every_cell(cells: &[Cell]) -> bool {
    let kernels = KernelChoice::parse("all", None).unwrap_or_default();
    let is_in = |cpu, kernel: &KernelChoice| {
        cells.iter().any(|cell| cell.cpu == cpu && cell.kernel == *kernel)
    };
    Cpu::ALL.into_iter().all(|cpu| kernels.iter().all(|kernel| is_in(cpu, kernel)))
}

/// Every rule of the product has a fault, or a reason why not.
fn every_rule_is_here(product: &Path) -> Result<()> {
    let said = command::run(Command::new(product).arg("explain"))?;
    let said = String::from_utf8_lossy(&said);
    let known: BTreeSet<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    let here = rows::all().map(|fault| fault.rule).chain(WITHOUT.iter().map(|(rule, _)| *rule));
    let here: BTreeSet<&str> = here.collect();
    let differ: Vec<&str> = known.symmetric_difference(&here).copied().collect();
    if !differ.is_empty() {
        bail!("known to ept-trace or to the faults, but not to both: {}", differ.join(", "));
    }
    Ok(())
}
