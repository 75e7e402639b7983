//! `completions`, `man` and `schema`: what this program tells of itself to a shell, to `man`, and to
//! whoever reads its JSON lines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::output::print;
use super::{Cli, Exit};
use crate::sink::schema;

/// The arguments of `completions`.
#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell to write them for
    shell: Shell,
}

/// The arguments of `man`.
#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// The directory to write them to, which is made if it is not there
    dir: PathBuf,
}

/// The arguments of `schema`.
#[derive(clap::Args)]
pub(super) struct SchemaArgs {
    /// Of which lines
    #[arg(value_enum, default_value = "lines")]
    of: Lines,
}

/// JSON lines of which there is a schema.
#[derive(Clone, Copy, ValueEnum)]
enum Lines {
    /// What `-j` and `--format json` write
    Lines,
    /// What `analyze --format observations` writes
    Observations,
}

/// Prints what a shell needs to complete a command line.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ept-trace", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Exit::Clean)
}

/// Writes a manual page for the program, and one for each verb.
pub(super) fn man(args: &ManArgs) -> Result<Exit> {
    let write = |dir: &Path| {
        fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    write(&args.dir).with_context(|| args.dir.display().to_string())?;
    Ok(Exit::Clean)
}

/// Prints the JSON Schema of lines.
pub(super) fn schema(args: &SchemaArgs) -> Result<Exit> {
    let schema = match args.of {
        Lines::Lines => schema::lines(),
        Lines::Observations => schema::observations(),
    };
    print(&(serde_json::to_string_pretty(&schema)? + "\n"))?;
    Ok(Exit::Clean)
}
