//! Several cells side by side, and a line for each.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::{Cell, Options, Outcome, run};
use crate::setup::{Setup, bochs};

/// Runs all `cells`, `jobs` at a time, and hands each to `tell` as it ends. What came of them is
/// returned in the order of `cells`.
pub fn run_all(
    setup: &Setup,
    cells: &[Cell],
    options: &Options,
    jobs: Option<usize>,
    tell: impl Fn(&Cell, &Result<Outcome>) + Sync,
) -> Result<Vec<Result<Outcome>>> {
    // Here, one after the other: fetching from several threads would garble what setup tells.
    for cell in cells {
        cell.kernel.ensure(setup)?;
    }
    if cells.iter().any(|cell| cell.cpu.module() == "kvm_intel") {
        bochs::ensure(setup)?;
    }
    let work = |cell: &Cell| {
        let mut options = options.clone();
        options.out = options.out.map(|dir| dir.join(cell.file_name()));
        run(cell, &options).and_then(|outcome| keep_output(&options, outcome))
    };
    Ok(side_by_side(cells, jobs, work, tell))
}

/// Does `work` on all `tasks`, `jobs` at a time, and hands each result to `tell` as it comes. The
/// results are returned in the order of `tasks`.
pub fn side_by_side<T: Sync, R: Send>(
    tasks: &[T],
    jobs: Option<usize>,
    work: impl Fn(&T) -> R + Sync,
    tell: impl Fn(&T, &R) + Sync,
) -> Vec<R> {
    let one_per_core = || thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || {
        while let Some((index, task)) = take(&next, tasks) {
            let result = work(task);
            // Told under the lock, so that a task's lines stay together.
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            tell(task, &result);
            done.push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or_else(one_per_core).clamp(1, tasks.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(next: &AtomicUsize, tasks: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    tasks.get(index).map(|task| (index, task))
}

/// The raw output beside the files from `/out`.
fn keep_output(options: &Options, outcome: Outcome) -> Result<Outcome> {
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("output"), &outcome.output)?;
    }
    Ok(outcome)
}

/// A line for a cell; its output too if it failed, or if `verbose`.
pub fn print(cell: &Cell, result: &Result<Outcome>, verbose: bool) {
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

/// `text` as what a cell has printed.
pub fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    | {line}")).collect();
    lines.join("\n")
}
