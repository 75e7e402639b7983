//! The faults of one cell, in one boot where all goes well.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};

use super::Scenario;
use super::fault::{Fault, How};
use super::rows;
use super::script::{self, Part, Section, Sections};
use super::{judge, module};
use crate::lab::run::Unfinished;
use crate::lab::{Cell, Options, run};
use crate::setup::{Setup, modules};

/// How long all that one fault needs may take, on top of what a boot may.
const PER_FAULT: Duration = Duration::from_mins(1);

/// What came of every fault of these `rules`, or of all if there are none, in `cell`.
pub fn faults(
    setup: &Setup,
    cell: &Cell,
    rules: &[String],
    options: &Options,
) -> Vec<(Scenario, Result<()>)> {
    let scenarios = scenarios(cell, rules);
    let mut results = Vec::new();
    // A fault that ends the boot has another follow it, for those after it.
    while results.len() < scenarios.len() {
        results.extend(boot(setup, cell, &scenarios[results.len()..], options));
    }
    scenarios.into_iter().zip(results).collect()
}

/// The faults of `cell`, those with the same guests together.
fn scenarios(cell: &Cell, rules: &[String]) -> Vec<Scenario> {
    let is_wanted =
        |fault: &&Fault| rules.is_empty() || rules.iter().any(|rule| rule == fault.rule);
    let scenario = |fault| super::seeded(fault, cell);
    let mut scenarios: Vec<Scenario> = rows::all().filter(is_wanted).filter_map(scenario).collect();
    scenarios.sort_by_key(|scenario| scenario.fault.check);
    scenarios
}

/// Boots `cell`; what came of the first of `scenarios`, at least of one.
fn boot(setup: &Setup, cell: &Cell, scenarios: &[Scenario], options: &Options) -> Vec<Result<()>> {
    match run_all(setup, cell, scenarios, options) {
        Ok(output) => {
            let sections = sections(&output);
            (0..scenarios.len()).map(|at| judge::judge(scenarios, at, &sections)).collect()
        }
        Err(end) => {
            let output = end.downcast_ref().map(|Unfinished { output, .. }| sections(output));
            cut_short(scenarios, &output.unwrap_or_default(), &end)
        }
    }
}

/// What came of those whose last run was over when the boot ended too early, and of the next.
fn cut_short(scenarios: &[Scenario], sections: &Sections, end: &Error) -> Vec<Result<()>> {
    let Some(last) = sections.keys().map(|(at, _)| *at).max() else {
        // Another boot would do no better.
        let why = format!("{end:#}");
        return scenarios.iter().map(|_| Err(anyhow!("{why}"))).collect();
    };
    let is_over = sections.get(&(last, Part::After)).is_some_and(Section::is_over);
    let over = if is_over { last + 1 } else { last };
    let mut results: Vec<_> = (0..over).map(|at| judge::judge(scenarios, at, sections)).collect();
    if over < scenarios.len() {
        let printed = sections.iter().filter(|((at, _), _)| *at == over);
        let printed: Vec<String> = printed
            .map(|((_, part), section)| format!("--- {} ---\n{}", part.name(), section.text))
            .collect();
        results.push(Err(anyhow!("{end:#}\n{}", printed.concat())));
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
        let found = modules::collect(&kernel.modules, &[wanted])?;
        let found = found.iter().find(|module| module.name == wanted);
        let elf = &found.with_context(|| format!("the kernel has no module {wanted}"))?.elf;
        let copy = module::changed(elf, changes)
            .with_context(|| format!("cannot change {wanted} for {}", scenario.fault.what))?;
        files.push((script::module_file(number), copy));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Seed, pokes};
    use super::*;

    static FAULT: Fault = Fault { rule: "EPT104", ..Fault::USUAL };
    static SEED: Seed = pokes(&[], &[], &[]);

    fn ended(output: &str) -> Vec<String> {
        let scenarios = [Scenario { fault: &FAULT, seed: &SEED }; 3];
        let results = cut_short(&scenarios, &sections(output.as_bytes()), &anyhow!("a crash"));
        results.iter().map(|result| format!("{:?}", result.as_ref().err())).collect()
    }

    #[test]
    fn the_fault_at_which_a_boot_ends_is_told_and_the_rest_is_left() {
        let told = ended(
            "faults: 0 before\nfaults: 0 taken back\nfaults: exit 0\n\
             faults: 1 seeding\nfaults: 1 with the fault\nlast words\n",
        );
        assert_eq!(told.len(), 2);
        assert!(!told[0].contains("a crash"), "it was over: {}", told[0]);
        assert!(told[1].contains("a crash") && told[1].contains("last words"), "{}", told[1]);
        let told = ended("faults: 0 taken back\nfaults: exit 0\n");
        assert!(told.len() == 2 && told[1].contains("a crash"), "{told:?}");
    }

    #[test]
    fn a_boot_that_ran_nothing_fails_every_fault() {
        let told = ended("");
        assert!(told.len() == 3 && told.iter().all(|one| one.contains("a crash")), "{told:?}");
    }
}
