//! The faults of one cell, in one boot where all goes well.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::Scenario;
use super::fault::How;
use super::rows::FAULTS;
use super::script::{self, Part, Section, Sections};
use super::{judge, module};
use crate::lab::run::Unfinished;
use crate::lab::{Cell, Options, run};
use crate::setup::{Setup, modules};

/// How long all that one fault needs may take, on top of what a boot may.
const PER_FAULT: Duration = Duration::from_mins(1);

/// What came of every fault in `cell`.
pub fn faults(setup: &Setup, cell: &Cell, options: &Options) -> Vec<(Scenario, Result<()>)> {
    let scenarios = scenarios(cell);
    let mut results = Vec::new();
    // A fault that ends the boot has another follow it, for those after it.
    while results.len() < scenarios.len() {
        results.extend(boot(setup, cell, &scenarios[results.len()..], options));
    }
    scenarios.into_iter().zip(results).collect()
}

/// The faults of `cell`, those with the same guests together.
fn scenarios(cell: &Cell) -> Vec<Scenario> {
    let scenario = |fault| super::seeded(fault, cell);
    let mut scenarios: Vec<Scenario> = FAULTS.iter().filter_map(scenario).collect();
    scenarios.sort_by_key(|scenario| scenario.fault.check);
    scenarios
}

/// Boots `cell`; what came of the first of `scenarios`, at least of one.
fn boot(setup: &Setup, cell: &Cell, scenarios: &[Scenario], options: &Options) -> Vec<Result<()>> {
    let error = match run_all(setup, cell, scenarios, options) {
        Ok(output) => {
            let sections = sections(&output);
            return (0..scenarios.len()).map(|at| judge::judge(scenarios, at, &sections)).collect();
        }
        Err(error) => error,
    };
    let output = error.downcast_ref().map(|Unfinished { output, .. }| output.clone());
    let Some(sections) = output.map(|output| sections(&output)).filter(|all| !all.is_empty())
    else {
        // Another boot would do no better.
        let why = format!("{error:#}");
        return scenarios.iter().map(|_| Err(anyhow!("{why}"))).collect();
    };
    let is_over = |at: &usize| sections.get(&(*at, Part::After)).is_some_and(Section::is_over);
    let over = (0..scenarios.len()).take_while(is_over);
    let mut results: Vec<_> = over.map(|at| judge::judge(scenarios, at, &sections)).collect();
    if results.len() < scenarios.len() {
        let last = sections.iter().rfind(|((at, _), _)| *at == results.len());
        let where_to = last.map_or_else(
            || "before anything of it ran".to_owned(),
            |((_, part), section)| format!("{}, which printed:\n{}", part.name(), section.text),
        );
        results.push(Err(error).with_context(|| format!("the cell ended {where_to}")));
    }
    results
}

fn sections(output: &[u8]) -> Sections {
    script::sections(&String::from_utf8_lossy(output))
}

/// What `cell` printed as it ran all of `scenarios`.
fn run_all(
    setup: &Setup,
    cell: &Cell,
    scenarios: &[Scenario],
    options: &Options,
) -> Result<Vec<u8>> {
    let command = ["sh", "-c", &script::script(scenarios)].map(str::to_owned).to_vec();
    let files = changed_modules(setup, cell, scenarios)?;
    let count = u32::try_from(scenarios.len())?;
    let timeout = options.timeout + PER_FAULT * count;
    let options = Options { command, files, timeout, pokes: true, ..options.clone() };
    Ok(run(cell, &options)?.output)
}

/// The files that seed faults in modules.
fn changed_modules(
    setup: &Setup,
    cell: &Cell,
    scenarios: &[Scenario],
) -> Result<Vec<(String, Vec<u8>)>> {
    let kernel = cell.kernel.ensure(setup)?;
    let mut files = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let How::Module(wanted, changes) = scenario.seed.how else { continue };
        let tree = kernel.modules.as_deref().context("the kernel has no modules to change")?;
        let found = modules::collect(tree, &[wanted])?;
        let found = found.iter().find(|module| module.name == wanted);
        let elf = &found.with_context(|| format!("the kernel has no module {wanted}"))?.elf;
        let copy = module::changed(elf, changes)
            .with_context(|| format!("cannot change {wanted} for {}", scenario.fault.what))?;
        files.push((script::module_file(number), copy));
    }
    Ok(files)
}
