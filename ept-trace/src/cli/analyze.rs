//! `analyze`: the same verdicts, from files.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use anyhow::Result;

use super::Exit;
use super::judge::Judge;
use super::output::OutputArgs;
use crate::model::{Event, EventKind};
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
pub(super) struct BadInput(pub(super) String);

/// Judges the files, one after another.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut judge = Judge::new(&args.output);
    let mut bad_lines = 0_u64;
    for path in &args.files {
        judge.next_machine();
        let mut last = None;
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
                    last = Some((event.time_ns, event.kind == EventKind::End));
                    judge.event(event)?;
                }
                Err(bad) => {
                    bad_lines += 1;
                    eprintln!("ept-trace: {name}: {bad} (passed over)");
                }
            }
        }
        match last {
            None => return Err(BadInput(format!("{name}: no observation is in it")).into()),
            Some((_, true)) => {}
            Some((time_ns, false)) => {
                let reason = "the file was cut off here: its end is missing".to_owned();
                judge.event(Event { time_ns, kind: EventKind::Gap { reason } })?;
            }
        }
    }
    judge.finish()?;
    Ok(match Exit::of(judge.summary()) {
        Exit::Mismatch => Exit::Mismatch,
        _ if bad_lines > 0 => Exit::BadInput,
        exit => exit,
    })
}
