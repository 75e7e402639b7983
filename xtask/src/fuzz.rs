//! `cargo xtask fuzz`: lets every parser of files loose on what a fuzzer makes of good ones.
//!
//! The targets are those of cargo-fuzz, which may be used as well (`cargo +nightly fuzz run TARGET`).
//! Here they are built by the stable toolchain: what they need of the compiler is coverage, which
//! it has, and the parsers have no unsafe code that a sanitizer would look at.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::{command, lab};

/// `cargo xtask fuzz`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For how long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these
    targets: Vec<String>,
}

/// Each target, and where in `tests/corpus` good files for it are.
const TARGETS: [(&str, &[&str]); 6] = [
    ("messages", &["messages"]),
    ("observations", &[""]),
    ("perf_data", &["perf"]),
    ("recording", &[""]),
    ("text", &["text/6.1-svm"]),
    ("trace_dat", &["dat"]),
];

/// Good files larger than this are too slow to make many variants of.
const MOST_OF_A_SEED: u64 = 96 << 10;

/// What a target may use before that counts as a defect: memory in MiB, seconds for one input.
const MOST_MEMORY: &str = "-rss_limit_mb=512";
const MOST_TIME: &str = "-timeout=20";

/// Coverage, as libFuzzer wants it.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Runs the targets one after the other; fails with the first that is broken.
pub fn main(args: &Args) -> Result<ExitCode> {
    for name in &args.targets {
        if TARGETS.iter().all(|(target, _)| target != name) {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            bail!("no target {name}: there are {}", names.join(", "));
        }
    }
    let is_asked =
        |target: &str| args.targets.is_empty() || args.targets.iter().any(|of| of == target);
    Ok(lab::exit_code(run_those(is_asked, args.seconds)?))
}

/// Runs every target for so many seconds; the exit code of the first that is broken, else 0.
pub fn run_all(seconds: u32) -> Result<i32> {
    run_those(|_| true, seconds)
}

fn run_those(is_asked: impl Fn(&str) -> bool, seconds: u32) -> Result<i32> {
    let build = build()?;
    for (target, seeds) in TARGETS {
        if is_asked(target) {
            let code = run(&build.join(target), target, seeds, seconds)?;
            if code != 0 {
                return Ok(code);
            }
        }
    }
    Ok(0)
}

/// Builds all targets; where they are. With a triple, so that build scripts are built without the
/// flags.
fn build() -> Result<PathBuf> {
    let target = command::repository().join("target/fuzz");
    let fuzz = command::repository().join("fuzz");
    // The versions are those of the workspace; cargo adds what the targets alone need.
    fs::copy(command::repository().join("Cargo.lock"), fuzz.join("Cargo.lock"))?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--target", TRIPLE, "--target-dir"]).arg(&target);
    cargo.current_dir(fuzz).env("RUSTFLAGS", FLAGS);
    let status = cargo.stdin(Stdio::null()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(target.join(TRIPLE).join("release"))
}

fn run(program: &Path, target: &str, seeds: &[&str], seconds: u32) -> Result<i32> {
    let scratch = command::repository().join("target/fuzz");
    let corpus = scratch.join("corpus").join(target);
    let good = scratch.join("seeds").join(target);
    fs::create_dir_all(&corpus)?;
    gather(seeds, &good)?;
    eprintln!("fuzz: {target}, {seconds} s");
    let status = Command::new(program)
        .arg(format!("-max_total_time={seconds}"))
        .args([MOST_MEMORY, MOST_TIME, "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-artifact_prefix={}/{target}-", scratch.display()))
        .args([&corpus, &good])
        .stdin(Stdio::null())
        .status()
        .with_context(|| program.display().to_string())?;
    Ok(status.code().unwrap_or(i32::from(crate::FAILURE)))
}

/// Puts the good files of a target into one directory.
fn gather(seeds: &[&str], into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    for seed in seeds {
        let from = command::repository().join("tests/corpus").join(seed);
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() && meta.len() <= MOST_OF_A_SEED {
                fs::copy(entry.path(), into.join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}
