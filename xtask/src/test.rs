//! `cargo xtask test`: everything that must hold before a change goes in.
//!
//! Nothing is printed after `cargo test`, so that its own counts are what a reader, or a machine,
//! finds at the end.

use std::env;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::setup::{self, Setup, bpf};
use crate::{FAILURE, command, fuzz, lab};

/// `cargo xtask test`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out the tests that boot cells of the lab
    #[arg(long, alias = "offline-only")]
    no_lab: bool,
    /// Arguments for `cargo test`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// From the cheapest to the dearest.
const STEPS: [&[&str]; 5] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--features", "tests/lab", "--", "-D", "warnings"],
    &[
        "clippy",
        "-p",
        "ept-trace",
        "--no-default-features",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
    &["build", "-p", "ept-trace", "--no-default-features"],
    &["build", "-p", "ept-trace"],
];

/// For how long each reader of files is fuzzed.
const SECONDS_OF_FUZZING: u32 = 10;

/// Runs all steps up to the first that fails; the exit code is its.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup::within_another_verb()?;
    if args.no_lab {
        bpf::ensure(&setup)?;
    } else {
        setup::ensure_all(&setup)?;
    }
    for step in STEPS {
        let code = cargo(step)?;
        if code != 0 {
            return Ok(lab::exit_code(code));
        }
    }
    let mut test = vec!["test", "--workspace"];
    if !args.no_lab {
        announce("the static ept-trace for the lab");
        lab::product::build(&setup)?;
        let fuzzed = fuzz::run_all(SECONDS_OF_FUZZING)?;
        if fuzzed != 0 {
            return Ok(lab::exit_code(fuzzed));
        }
        test.extend(["--features", "tests/lab"]);
    }
    test.extend(args.args.iter().map(String::as_str));
    Ok(lab::exit_code(cargo(&test)?))
}

fn announce(what: &str) {
    eprintln!("test: {what}");
}

fn cargo(words: &[&str]) -> Result<i32> {
    announce(&format!("cargo {}", words.join(" ")));
    // The tests call the lab through the very program that runs them.
    let xtask = env::current_exe().context("this program cannot tell where it is")?;
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(words)
        .env("EPT_TRACE_XTASK", xtask)
        .current_dir(command::repository())
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo: is it installed?")?;
    Ok(status.code().unwrap_or(i32::from(FAILURE)))
}
