//! Several cells side by side, and a line for each.

use std::fs;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

use super::{Cell, Options, Outcome, exit_code, run};
use crate::FAILURE;
use crate::setup::{Setup, bochs};

/// Runs all `cells`, `jobs` at a time. The exit code is that of the first in the table that is
/// not 0; a cell that crashed or hung counts as 2.
pub fn run_all(
    setup: &Setup,
    cells: &[Cell],
    options: &Options,
    jobs: Option<usize>,
    verbose: bool,
) -> Result<ExitCode> {
    // Here, one after the other: fetching from several threads would garble what setup tells.
    for cell in cells {
        cell.kernel.ensure(setup)?;
    }
    if cells.iter().any(|cell| cell.cpu.module() == "kvm_intel") {
        bochs::ensure(setup)?;
    }
    let one_per_core = || thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let codes = Mutex::new(vec![0; cells.len()]);
    let worker = || {
        while let Some((index, cell)) = take(&next, cells) {
            let mut options = options.clone();
            options.out = options.out.map(|dir| dir.join(cell.file_name()));
            let result = run(cell, &options).and_then(|outcome| keep_output(&options, outcome));
            let code = result.as_ref().map_or(i32::from(FAILURE), |outcome| outcome.exit_code);
            // One lock for both, so that a cell's lines stay together.
            if let Ok(mut codes) = codes.lock() {
                codes[index] = code;
                print(cell, &result, verbose);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or_else(one_per_core).clamp(1, cells.len()) {
            scope.spawn(worker);
        }
    });
    let codes = codes.into_inner().unwrap_or_default();
    let failed = codes.iter().filter(|code| **code != 0).count();
    println!("{} of {} cells ok", cells.len() - failed, cells.len());
    Ok(exit_code(codes.into_iter().find(|code| *code != 0).unwrap_or(0)))
}

fn take<'a>(next: &AtomicUsize, cells: &'a [Cell]) -> Option<(usize, &'a Cell)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    cells.get(index).map(|cell| (index, cell))
}

/// The raw output beside the files from `/out`.
fn keep_output(options: &Options, outcome: Outcome) -> Result<Outcome> {
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("output"), &outcome.output)?;
    }
    Ok(outcome)
}

fn print(cell: &Cell, result: &Result<Outcome>, verbose: bool) {
    match result {
        Ok(outcome) => {
            let verdict = match outcome.exit_code {
                0 => "ok".to_owned(),
                code => format!("exit {code}"),
            };
            let (total, boot) = (outcome.total_time.as_secs_f64(), outcome.boot_time.as_secs_f64());
            let release = &outcome.release;
            println!("{cell}  {verdict:<7} {total:6.1} s (boot {boot:.1} s)  {release}");
            if verbose || outcome.exit_code != 0 {
                println!("{}", indented(&String::from_utf8_lossy(&outcome.output)));
            }
        }
        Err(error) => println!("{cell}  failed\n{}", indented(&format!("{error:#}"))),
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    | {line}")).collect();
    lines.join("\n")
}
