//! The flags that choose an output, and the sinks that they name.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::analysis::{Analysis, Judged, Summary};
use crate::model::{Event, HookStatus, Verdict};
use crate::sink::{Json, Observations, Sink, Text};

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
    fn sink(&self) -> Box<dyn Sink> {
        let out = BufWriter::new(io::stdout());
        if self.json || self.format == Format::Json {
            return Box::new(Json::new(out));
        }
        let colour = match self.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        Box::new(Text::new(out, colour, self.quiet))
    }
}

/// Judges events and hands them to every sink.
pub(super) struct Judge {
    analysis: Analysis,
    sinks: Vec<Box<dyn Sink>>,
    only_wrong: bool,
    /// The first error of a sink; none is written to after it.
    failed: bool,
}

impl Judge {
    /// Shows on the standard output.
    pub(super) fn new(output: &OutputArgs) -> Self {
        Self {
            analysis: Analysis::default(),
            sinks: vec![output.sink()],
            only_wrong: false,
            failed: false,
        }
    }

    /// Shows nothing.
    #[cfg(feature = "live")]
    pub(super) fn silent() -> Self {
        Self {
            analysis: Analysis::default(),
            sinks: Vec::new(),
            only_wrong: false,
            failed: false,
        }
    }

    /// Also writes the observations to a file, which only its owner can read: it holds kernel
    /// addresses' worth of detail on other people's guests.
    pub(super) fn record_to(&mut self, path: &Path) -> Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path).with_context(|| path.display().to_string())?;
        self.sinks.push(Box::new(Observations::new(BufWriter::new(file))));
        Ok(())
    }

    /// Shows decisions only if they are not ok.
    #[cfg(feature = "live")]
    pub(super) fn show_only_wrong(&mut self) {
        self.only_wrong = true;
    }

    /// Shows the hooks.
    #[cfg(feature = "live")]
    pub(super) fn begin(&mut self, hooks: &[HookStatus], lost: &[String]) -> io::Result<()> {
        self.each(|sink| sink.begin(hooks, lost))
    }

    /// Judges an event and shows it.
    pub(super) fn event(&mut self, event: Event) -> io::Result<Judged> {
        let judged = self.analysis.judge(event);
        let is_decision = judged.mode.is_some();
        if !(self.only_wrong && is_decision && judged.verdict() == Verdict::Ok) {
            self.each(|sink| sink.event(&judged))?;
        }
        Ok(judged)
    }

    /// The counts so far.
    pub(super) fn summary(&self) -> &Summary {
        self.analysis.summary()
    }

    /// The counts, to complete them.
    #[cfg(feature = "live")]
    pub(super) fn summary_mut(&mut self) -> &mut Summary {
        self.analysis.summary_mut()
    }

    /// Shows the counts; nothing if the output is gone.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let Self { analysis, sinks, .. } = self;
        sinks.iter_mut().try_for_each(|sink| sink.finish(analysis.summary()))
    }

    fn each(&mut self, write: impl FnMut(&mut Box<dyn Sink>) -> io::Result<()>) -> io::Result<()> {
        let done = self.sinks.iter_mut().try_for_each(write);
        self.failed |= done.is_err();
        done
    }
}

/// Writes text to the standard output; for verbs that print one thing.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
