//! A large recording, of more than a million events, by which the readers' speed is measured. It is
//! no part of the corpus: it stays in the cache, under a name by all that made it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::texts;
use crate::command;
use crate::lab::{Cell, Cpu, KernelChoice, Options};
use crate::setup::Setup;

/// 28 events for a page.
const RECORD: &str = "session big
    perf-record -m 8192 -o perf.data -- \
        trace-cmd-record -b 32768 --compression none -e kvm -e kvmmmu -o trace.dat \
        all-symbols guests '52 --sweeps 40'";

/// The directory with `trace.dat`, `trace.zstd.dat`, `report.txt`, `perf.data` and `perf-script.txt`,
/// from the cache if it is there.
pub fn ensure(setup: &Setup, options: &Options) -> Result<PathBuf> {
    let dir = setup.cache.path(format!("logs-{:016x}", recipe_hash(options)?));
    if dir.exists() {
        return Ok(dir);
    }
    let lock = setup.cache.lock("logs")?;
    if dir.exists() {
        return Ok(dir);
    }
    setup.working("logs", "a million events", "recording (two minutes)");
    let draft = lock.draft()?;
    let cell = Cell { cpu: Cpu::Svm, kernel: KernelChoice::parse("6.12", None)?.remove(0) };
    super::run(&cell, RECORD, options, draft.path())?;
    let made = draft.path().join("big");
    let mut convert = Command::new("trace-cmd");
    convert.args(["convert", "-i", "trace.dat", "-o", "trace.zstd.dat", "--file-version", "7"]);
    command::run(convert.args(["--compression", "zstd"]).current_dir(&made))?;
    texts::write(Command::new("trace-cmd").args(["report", "trace.dat"]), &made, "report.txt")?;
    texts::write(
        Command::new("perf").args(["script", "-i", "perf.data"]),
        &made,
        "perf-script.txt",
    )?;
    draft.publish("big", &dir)?;
    Ok(dir)
}

/// Names a recording by all that makes it.
fn recipe_hash(options: &Options) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    RECORD.hash(&mut hasher);
    for file in &options.add {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        bytes.hash(&mut hasher);
    }
    Ok(hasher.finish())
}
