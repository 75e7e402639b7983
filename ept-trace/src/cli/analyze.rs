//! `analyze`: the same verdicts, from files.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use anyhow::Result;

use super::Exit;
use super::judge::Judge;
use super::output::OutputArgs;
use crate::source::Observations;

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Files of observations; `-` is the standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadInput(String);

/// Judges the files, one after another.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut judge = Judge::new(&args.output);
    let mut bad_lines = 0_u64;
    for path in &args.files {
        judge.next_machine();
        let mut events = 0_u64;
        let name = path.display();
        let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(path).map_err(|err| BadInput(format!("{name}: {err}")))?;
            Box::new(BufReader::new(file))
        };
        for line in Observations::new(input) {
            match line.map_err(|err| BadInput(format!("{name}: {err}")))? {
                Ok(event) => {
                    judge.event(event)?;
                    events += 1;
                }
                Err(bad) => {
                    bad_lines += 1;
                    eprintln!("ept-trace: {name}: {bad} (passed over)");
                }
            }
        }
        if events == 0 {
            return Err(BadInput(format!("{name}: no observation is in it")).into());
        }
    }
    judge.finish()?;
    Ok(match Exit::of(judge.summary()) {
        Exit::Mismatch => Exit::Mismatch,
        _ if bad_lines > 0 => Exit::BadInput,
        exit => exit,
    })
}
