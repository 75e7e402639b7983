//! The arguments of `analyze`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Result;

use super::facts::Given;
use crate::cli::explain::parse_hex;
use crate::cli::judge::Judge;
use crate::cli::reports::{self, ReportArgs};
use crate::cli::walk::Replay;
use crate::model::Fact;
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
    /// Write to a file instead of the standard output
    #[arg(short, value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    reports: ReportArgs,
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
        let is_on_terminal = self.output_file.is_none() && io::stdout().is_terminal();
        is_on_terminal && self.reports.writes_lines()
    }

    /// Whether to print JSON lines.
    pub(super) fn is_json(&self) -> bool {
        self.reports.is_json()
    }

    /// What judges, and writes.
    pub(super) fn judge(&self) -> Result<Judge> {
        let (out, is_terminal) = reports::open(self.output_file.as_deref())?;
        // What a file is of knows no scenarios: such entries match nothing.
        self.reports.judge(out, is_terminal, |_| true)
    }
}
