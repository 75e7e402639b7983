//! The flags that choose an output, and the sinks that they name.

use std::io::{self, Write};
#[cfg(feature = "live")]
use std::io::{IsTerminal as _, LineWriter};

use clap::ValueEnum;

#[cfg(feature = "live")]
use crate::sink::{Json, Sink, Text};

/// Longer lines are written in pieces, in bytes; none is.
#[cfg(feature = "live")]
const LONGEST_LINE: usize = 1 << 16;

/// A format of the standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for a person
    Text,
    /// One JSON object a line
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    /// Whether to colour what goes to a terminal, or does not.
    pub(super) fn is_on(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// How to show what is judged.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct OutputArgs {
    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// The same as --format json
    #[arg(short)]
    pub json: bool,
    /// Show only what is not ok, and the counts
    #[arg(short, long)]
    pub quiet: bool,
    /// Colour the text; auto also honours `NO_COLOR`
    #[arg(long, value_enum, default_value = "auto")]
    pub color: Colour,
}

impl OutputArgs {
    /// The sink on the standard output.
    #[cfg(feature = "live")]
    pub(super) fn sink(&self) -> Box<dyn Sink> {
        let out = lines();
        if self.json || self.format == Format::Json {
            return Box::new(Json::new(out, self.quiet));
        }
        let colour = self.color.is_on(io::stdout().is_terminal());
        Box::new(Text::new(out, colour, self.quiet))
    }
}

/// The standard output in whole lines, for others may write to the same place.
#[cfg(feature = "live")]
pub(super) fn lines() -> LineWriter<io::Stdout> {
    LineWriter::with_capacity(LONGEST_LINE, io::stdout())
}

/// Writes text to the standard output; for verbs that print one thing. Its reader may leave, as
/// `| head -1` does; that is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
