//! The command line: one file for each verb. Exit codes and a closed pipe are decided here, once.

mod analyze;
#[cfg(feature = "live")]
mod check;
#[cfg(feature = "live")]
mod doctor;
mod explain;
mod generate;
mod judge;
mod output;
#[cfg(feature = "live")]
mod recording;
mod reports;
mod walk;
#[cfg(feature = "live")]
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::analysis::Summary;

/// Watches KVM choose the TDP root level, and judges it.
#[derive(Parser)]
#[command(name = "ept-trace", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 clean, 1 mismatch, 2 usage or failure, 3 incomplete, \
                        4 cannot run here, 5 bad input")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Watch decisions as they are taken, and judge each
    #[cfg(feature = "live")]
    Watch(watch::Args),
    /// Record decisions without showing them, to be judged later by `analyze`
    #[cfg(feature = "live")]
    Record(watch::RecordArgs),
    /// Drive small guests, and judge what KVM decides for them
    #[cfg(feature = "live")]
    Check(check::Args),
    /// Show what this machine offers, and the plan that `watch` would execute
    #[cfg(feature = "live")]
    Doctor(doctor::Args),
    /// Judge recordings made with `watch -o` or `record`
    Analyze(analyze::Args),
    /// Walk a nested page table to an address, from a dump, this machine or a list of entries
    Walk(walk::Args),
    /// Explain a rule, or the decision for a MAXPHYADDR step by step
    Explain(explain::Args),
    /// Print the completions of a shell
    Completions(generate::CompletionsArgs),
    /// Write the manual pages, one for each verb
    Man(generate::ManArgs),
    /// Print the JSON Schema of the JSON lines
    Schema(generate::SchemaArgs),
    /// Load every eBPF program, and print what the verifier made of each as JSON lines
    #[cfg(feature = "live")]
    #[command(hide = true)]
    Programs {
        /// Write the eBPF object to a file instead
        #[arg(long, value_name = "FILE")]
        write: Option<std::path::PathBuf>,
    },
    /// Clean up after a killed watcher
    #[cfg(feature = "live")]
    #[command(hide = true)]
    Janitor { group: String },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean,
    Mismatch,
    Failure,
    Incomplete,
    #[cfg(feature = "live")]
    CannotRun,
    BadInput,
    /// As the command that was watched ended.
    #[cfg(feature = "live")]
    OfCommand(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Clean => 0,
            Exit::Mismatch => 1,
            Exit::Failure => 2,
            Exit::Incomplete => 3,
            #[cfg(feature = "live")]
            Exit::CannotRun => 4,
            Exit::BadInput => 5,
            #[cfg(feature = "live")]
            Exit::OfCommand(code) => code,
        })
    }
}

impl Exit {
    /// What the counts of a run call for: only a mismatch fails it, and only then does a loss.
    fn of(summary: &Summary) -> Self {
        if summary.mismatches > 0 {
            Self::Mismatch
        } else if summary.is_incomplete() {
            Self::Incomplete
        } else {
            Self::Clean
        }
    }
}

/// Parses the arguments, runs the verb, and says how it ended.
pub fn run() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter("EPT_TRACE_LOG"))
        .format_target(false)
        .init();
    let done = match Cli::parse().verb {
        #[cfg(feature = "live")]
        Verb::Watch(args) => watch::run(args),
        #[cfg(feature = "live")]
        Verb::Record(args) => watch::run(args.into()),
        #[cfg(feature = "live")]
        Verb::Check(args) => check::run(&args),
        #[cfg(feature = "live")]
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Analyze(args) => analyze::run(&args),
        Verb::Walk(args) => walk::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Completions(args) => generate::completions(&args),
        Verb::Man(args) => generate::man(&args),
        Verb::Schema(args) => generate::schema(&args),
        #[cfg(feature = "live")]
        Verb::Programs { write } => doctor::programs(write.as_deref()),
        #[cfg(feature = "live")]
        Verb::Janitor { group } => crate::live::serve_janitor(&group).map(|()| Exit::Clean),
    };
    finish(done).into()
}

fn finish(done: Result<Exit>) -> Exit {
    let err = match done {
        Ok(exit) => return exit,
        Err(err) => err,
    };
    #[cfg(feature = "live")]
    if let Some(why) = err.downcast_ref::<crate::live::CannotRun>() {
        eprintln!("ept-trace: cannot run here: {why}");
        return Exit::CannotRun;
    }
    eprintln!("ept-trace: {err:#}");
    if err.is::<analyze::BadInput>() { Exit::BadInput } else { Exit::Failure }
}
