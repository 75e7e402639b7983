//! `cargo xtask logs`: the same guests recorded at once with ept-trace, trace-cmd, perf and ftrace, in
//! cells of the lab, some with a fault in KVM. What is recorded becomes the corpus of the readers of
//! logs, `tests/corpus/logs`; all of it or nothing.

mod big;
mod check;
mod plan;
mod store;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use self::plan::{BOOTS, Boot};
use self::store::Stored;
use crate::lab::{self, Cell, Options, matrix, product};
use crate::setup::{Setup, bochs, packages};
use crate::{FAILURE, command};

/// What records, in the guest.
const SCRIPT: &str = "xtask/lab/logs.sh";
/// Bochs takes its time.
const TIMEOUT: Duration = Duration::from_mins(30);

/// `cargo xtask logs`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many cells to run side by side (default: one per core)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Instead: make the large recording that `bench` reads, if it is not there, and tell where it is
    #[arg(long, conflicts_with = "keep")]
    big: bool,
    /// Keep all that is recorded, unpacked, in DIR; the cells that are there already are not recorded
    /// again
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Records everything; writes the corpus if every recording is as it should be.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup::within_another_verb()?;
    if args.big {
        println!("{}", large(&setup)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = setup.cache.scratch("logs")?;
    let options = options(&setup, scratch.path())?;
    // Here, one after the other: fetching from several threads would garble what setup tells.
    for boot in BOOTS {
        boot.cell()?.kernel.ensure(&setup)?;
    }
    bochs::ensure(&setup)?;
    let raw = args.keep.clone().unwrap_or_else(|| scratch.path().join("raw"));
    let work = |boot: &Boot| record(boot, &options, &raw);
    let tell = |boot: &Boot, result: &Result<Vec<Stored>>| match result {
        Ok(files) => println!("{}: {} files", boot.name(), files.len()),
        Err(error) => println!("{}: {}", boot.name(), matrix::indented(&format!("{error:#}"))),
    };
    let results = matrix::side_by_side(BOOTS, args.jobs, work, tell);
    let Ok(recorded) = results.into_iter().collect::<Result<Vec<_>>>() else {
        println!("nothing is written, for not every recording is as it should be");
        return Ok(ExitCode::from(FAILURE));
    };
    store::write(&recorded.concat())?;
    Ok(ExitCode::SUCCESS)
}

/// The directory with the large recording: see [`big::ensure`].
pub fn large(setup: &Setup) -> Result<PathBuf> {
    let scratch = setup.cache.scratch("logs")?;
    big::ensure(setup, &options(setup, scratch.path())?)
}

/// A guest with the recorders in it.
fn options(setup: &Setup, scratch: &Path) -> Result<Options> {
    packages::ensure(setup, &packages::RECORDERS)?;
    let mut options = Options::new(&[], lab::prepare(setup)?);
    for recorder in ["trace-cmd", "perf"] {
        let program = command::find(recorder).with_context(|| format!("no {recorder}"))?;
        options.add.push(lab::pack(&program, scratch)?);
    }
    options.add.push(product::build_vmm()?);
    options.add.push(command::repository().join(SCRIPT));
    Ok(Options { timeout: TIMEOUT, pokes: true, ..options })
}

/// Runs `script` in `cell` with the functions of [`SCRIPT`]; what it leaves is in `out`.
fn run(cell: &Cell, script: &str, options: &Options, out: &Path) -> Result<()> {
    let script = format!(". /add/logs.sh\n{script}");
    let command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let options = Options { command, out: Some(out.to_owned()), ..options.clone() };
    let outcome = lab::run(cell, &options)?;
    if outcome.out_files.is_none() {
        let said = command::last_lines(&outcome.output, 10);
        bail!("nothing was recorded, exit code {}:\n{said}", outcome.exit_code);
    }
    Ok(())
}

/// All sessions of one boot: recorded, checked, and packed for the corpus.
fn record(boot: &Boot, options: &Options, raw: &Path) -> Result<Vec<Stored>> {
    let cell = boot.cell()?;
    let out = raw.join(boot.name());
    if !out.exists() {
        run(&cell, &boot.script()?, options, &out)?;
    }
    let mut files = Vec::new();
    for session in boot.sessions {
        let dir = out.join(session.name());
        let checked = texts::derive(&dir).and_then(|()| check::check(session, &dir));
        checked.map_err(|why| anyhow!("{}: {why:#}", session.name()))?;
        for entry in fs::read_dir(&dir)? {
            let file = entry?.path();
            if session.keeps(&file) {
                files.push(store::pack(&file, &session.directory(&boot.name()))?);
            }
        }
    }
    Ok(files)
}
