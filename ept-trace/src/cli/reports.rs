//! Which reports are written, and where: the same choice for `analyze` and `check`.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::analyze::BadInput;
use super::judge::Judge;
use super::output::Colour;
use crate::analysis::Baseline;
use crate::private_file::{self, Name};
use crate::report::{self, Report};
use crate::sink::{Json, Observations, Sink, Text};

/// A format of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A report: what is wrong first, then what it rests on, then the counts
    Text,
    /// Every observation, a line each, as `watch` shows them
    Events,
    /// One JSON object a line
    Json,
    /// A test case for each rule and each case of a scenario, as CI reads it
    Junit,
    /// The same, in TAP version 14
    Tap,
    /// The same, in KTAP version 1, as the kernel's own tests print it
    Ktap,
    /// Findings in SARIF 2.1.0
    Sarif,
    /// Annotations of a GitHub workflow, and the summary of its job
    Github,
    /// One page that needs nothing else
    Html,
    /// The observations without verdicts, as JSON lines that `analyze` reads
    Observations,
}

/// Which reports to write.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ReportArgs {
    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(short)]
    json: bool,
    /// Also write a report to a file, such as junit=results.xml; may be given several times
    #[arg(long, value_name = "FORMAT=FILE")]
    report: Vec<ReportTo>,
    /// Of events and JSON lines, show only what is not ok, and the counts
    #[arg(short, long)]
    quiet: bool,
    /// Colour the text; auto also honours `NO_COLOR`
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
    /// Known findings, each with a reason: they are told as such, and fail nothing
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// A report, and where it goes.
#[derive(Clone, Debug)]
struct ReportTo {
    format: Format,
    path: PathBuf,
}

impl FromStr for ReportTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, path) =
            text.split_once('=').ok_or("FORMAT=FILE, such as junit=results.xml")?;
        let format = Format::from_str(format, true)
            .map_err(|_| format!("no format {format}; --format shows them in --help"))?;
        Ok(Self { format, path: path.into() })
    }
}

impl ReportArgs {
    /// Whether to print JSON lines.
    pub(super) fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    /// Whether observations are shown as they come.
    pub(super) fn writes_lines(&self) -> bool {
        self.is_json() || matches!(self.format, Format::Events | Format::Observations)
    }

    /// What judges, shows on `out` and writes the reports. Scenarios of the baseline must be among
    /// those that `is_scenario` knows. Whatever can fail does so here, before anything is judged.
    pub(super) fn judge(
        &self,
        out: Box<dyn Write>,
        is_terminal: bool,
        is_scenario: impl Fn(&str) -> bool,
    ) -> Result<Judge> {
        let format = if self.json { Format::Json } else { self.format };
        let mut judge = Judge::with(self.sink(format, out, is_terminal));
        if format == Format::Github {
            Self::add_summary_of_job(&mut judge)?;
        }
        for ReportTo { format, path } in &self.report {
            let file = private_file::create(path, Name::Given);
            let file = file.with_context(|| path.display().to_string())?;
            let out = Box::new(BufWriter::with_capacity(1 << 16, file));
            judge.also_write(path.display().to_string(), self.sink(*format, out, false));
            if *format == Format::Github {
                Self::add_summary_of_job(&mut judge)?;
            }
        }
        if let Some(path) = &self.baseline {
            let bad = |why: String| BadInput(format!("{}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|err| bad(err.to_string()))?;
            let baseline =
                Baseline::parse(&text, is_scenario).map_err(|err| bad(err.to_string()))?;
            judge.accept(baseline);
        }
        Ok(judge)
    }

    /// Where GitHub has it, the summary of a job goes with the annotations.
    fn add_summary_of_job(judge: &mut Judge) -> Result<()> {
        let is_set = |path: &std::ffi::OsString| !path.is_empty();
        let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(is_set) else {
            return Ok(());
        };
        let path = PathBuf::from(path);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.with_context(|| format!("GITHUB_STEP_SUMMARY: {}", path.display()))?;
        let report = Report::new(BufWriter::new(file), report::Format::Markdown);
        judge.also_write(path.display().to_string(), Box::new(report));
        Ok(())
    }

    fn sink(&self, format: Format, out: Box<dyn Write>, is_terminal: bool) -> Box<dyn Sink> {
        let colour = || self.color.is_on(is_terminal);
        let report = match format {
            Format::Events => return Box::new(Text::new(out, colour(), self.quiet)),
            Format::Json => return Box::new(Json::new(out, self.quiet)),
            Format::Observations => return Box::new(Observations::new(out)),
            Format::Text => report::Format::Text { colour: colour() },
            Format::Junit => report::Format::Junit,
            Format::Tap => report::Format::Tap,
            Format::Ktap => report::Format::Ktap,
            Format::Sarif => report::Format::Sarif,
            Format::Github => report::Format::Github,
            Format::Html => report::Format::Html,
        };
        Box::new(Report::new(out, report))
    }
}

/// A file, or the standard output if there is none; and whether it is a terminal.
pub(super) fn open(path: Option<&Path>) -> Result<(Box<dyn Write>, bool)> {
    let (out, is_terminal): (Box<dyn Write>, bool) = match path {
        Some(path) => {
            let file = private_file::create(path, Name::Given);
            let file = file.with_context(|| path.display().to_string())?;
            (Box::new(file), false)
        }
        None => (Box::new(io::stdout()), io::stdout().is_terminal()),
    };
    Ok((Box::new(BufWriter::with_capacity(1 << 16, out)), is_terminal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_format_and_a_file() {
        let parse = |text: &str| text.parse::<ReportTo>();
        let report = parse("junit=out/a=b.xml").unwrap();
        assert_eq!((report.format, report.path), (Format::Junit, PathBuf::from("out/a=b.xml")));
        for wrong in ["junit", "xml=a", "=a", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
