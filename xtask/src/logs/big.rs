//! A large recording by which the readers' speed is measured. It is no part of the corpus: it stays
//! in the cache, with the name of all that made it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{check, texts};
use crate::command;
use crate::lab::{Cell, Cpu, KernelChoice, Options};
use crate::setup::Setup;

/// 28 events for each page of a sweep.
const RECORD: &str = "session big
    set -f
    perf-record -m 8192 $every_event -o perf.data -- \
        trace-cmd-record -b 32768 --compression none -e kvm -e kvmmmu -o trace.dat \
        all-symbols guests '52 --sweeps 40'";
/// Fewer events are not what it makes.
const FEWEST: usize = 1_000_000;
/// The file with the recipe's name.
const RECIPE: &str = "recipe";

/// The directory with `trace.dat`, `trace.zstd.dat`, `report.txt`, `perf.data` and `perf-script.txt`,
/// all of the same events; from the cache if it is there.
pub fn ensure(setup: &Setup, options: &Options) -> Result<PathBuf> {
    let dir = setup.cache.path("logs");
    let cell = Cell { cpu: Cpu::Svm, kernel: KernelChoice::parse("6.12", None)?.remove(0) };
    let recipe = format!("{:016x}", recipe(&cell.kernel.ensure(setup)?.release, options)?);
    let is_there = || fs::read_to_string(dir.join(RECIPE)).is_ok_and(|made| made == recipe);
    if is_there() {
        return Ok(dir);
    }
    let lock = setup.cache.lock("logs")?;
    if is_there() {
        return Ok(dir);
    }
    setup.working("logs", "a million events", "recording (a minute)");
    let draft = lock.draft()?;
    super::run(&cell, RECORD, options, draft.path())?;
    let made = draft.path().join("big");
    complete(&made)?;
    fs::write(made.join(RECIPE), recipe)?;
    draft.publish("big", &dir)?;
    Ok(dir)
}

/// Adds what is made of the two recordings outside, and checks them.
fn complete(dir: &Path) -> Result<()> {
    let mut convert = Command::new("trace-cmd");
    convert.args(["convert", "-i", "trace.dat", "-o", "trace.zstd.dat", "--file-version", "7"]);
    command::run(convert.args(["--compression", "zstd"]).current_dir(dir))?;
    let texts = ["report.txt", "perf-script.txt"];
    texts::write(Command::new("trace-cmd").args(["report", "trace.dat"]), dir, texts[0])?;
    texts::write(Command::new("perf").args(["script", "-i", "perf.data"]), dir, texts[1])?;
    let read = |file: &str| fs::read_to_string(dir.join(file)).context("a text is missing");
    let events = check::all_tell_the_same(&texts, read)?;
    if events < FEWEST {
        bail!("only {events} events were recorded");
    }
    Ok(())
}

/// All that makes a recording.
fn recipe(kernel: &str, options: &Options) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    (RECORD, kernel).hash(&mut hasher);
    for file in &options.add {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        bytes.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
