//! The arguments of `analyze`.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::facts::Given;
use crate::cli::explain::parse_hex;
use crate::cli::output::Colour;
use crate::cli::walk::Replay;
use crate::model::Fact;
use crate::private_file::{self, Name};
use crate::report::{self, Report};
use crate::sink::{Json, Observations, Sink, Text};
use crate::source::trace::Said;

/// The arguments.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Recordings and logs, told by what is in them; `-` is the standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// MAXPHYADDR of the guests, which logs do not tell
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    maxphyaddr: Option<u8>,
    /// The logs have the events of all threads of the machine, on all CPUs (perf record -a)
    #[arg(long)]
    whole: bool,
    /// The machine is Intel's, and this is its EPT capability, MSR 0x48c
    #[arg(long, value_name = "HEX", value_parser = parse_hex, conflicts_with_all = ["npt", "kernel_facts"])]
    ept_cap: Option<u64>,
    /// The machine is AMD's, and its host has paging of so many levels
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u8).range(4..=5), conflicts_with = "kernel_facts")]
    npt: Option<u8>,
    /// What `ept-trace doctor -j` says on the machine
    #[arg(long, value_name = "FILE")]
    kernel_facts: Option<PathBuf>,
    #[command(flatten)]
    pub replay: Replay,
    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(short)]
    json: bool,
    /// Write to a file instead of the standard output
    #[arg(short, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Of events and JSON lines, show only what is not ok, and the counts
    #[arg(short, long)]
    quiet: bool,
    /// Colour the text; auto also honours `NO_COLOR`
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

/// A format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A report: what is wrong first, then what it rests on, then the counts
    Text,
    /// Every observation, a line each, as `watch` shows them
    Events,
    /// One JSON object a line
    Json,
    /// A test case for each rule, as CI reads it
    Junit,
    /// The same, in TAP version 14
    Tap,
    /// Findings in SARIF 2.1.0
    Sarif,
    /// One page that needs nothing else
    Html,
    /// The observations without verdicts, as JSON lines that `analyze` reads
    Observations,
}

impl Args {
    /// What the user says of the machine.
    pub(super) fn facts(&self) -> Result<Option<Given>> {
        Ok(match (&self.kernel_facts, self.ept_cap, self.npt) {
            (Some(path), ..) => Some(Given::read(path)?),
            (None, Some(capability), _) => Some(Given::ept(capability)),
            (None, None, Some(levels)) => Some(Given::npt(levels)),
            (None, None, None) => None,
        })
    }

    /// What the user says of logs.
    pub(super) fn said(&self) -> Said {
        Said {
            maxphyaddr: self.maxphyaddr.map(|bits| Fact::known(bits, "--maxphyaddr")),
            is_whole: self.whole,
        }
    }

    /// Whether observations are shown on a terminal as they come.
    pub(super) fn writes_lines_to_terminal(&self) -> bool {
        let is_lines = matches!(self.format, Format::Events | Format::Json | Format::Observations);
        (is_lines || self.json) && self.output_file.is_none() && io::stdout().is_terminal()
    }

    /// Whether to print JSON lines.
    pub(super) fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    /// Where it goes.
    pub(super) fn sink(&self) -> Result<Box<dyn Sink>> {
        let (out, is_terminal): (Box<dyn Write>, bool) = match &self.output_file {
            Some(path) => {
                let file = private_file::create(path, Name::Given);
                let file = file.with_context(|| path.display().to_string())?;
                (Box::new(file), false)
            }
            None => (Box::new(io::stdout()), io::stdout().is_terminal()),
        };
        let out = BufWriter::with_capacity(1 << 16, out);
        let format = if self.json { Format::Json } else { self.format };
        Ok(match format {
            Format::Text => {
                let colour = self.color.is_on(is_terminal);
                Box::new(Report::new(out, report::Format::Text { colour }))
            }
            Format::Events => Box::new(Text::new(out, self.color.is_on(is_terminal), self.quiet)),
            Format::Json => Box::new(Json::new(out, self.quiet)),
            Format::Junit => Box::new(Report::new(out, report::Format::Junit)),
            Format::Tap => Box::new(Report::new(out, report::Format::Tap)),
            Format::Sarif => Box::new(Report::new(out, report::Format::Sarif)),
            Format::Html => Box::new(Report::new(out, report::Format::Html)),
            Format::Observations => Box::new(Observations::new(out)),
        })
    }
}
