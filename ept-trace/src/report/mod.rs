//! Reports: what a whole run has come to, written at its end.
//!
//! Each format is one file that writes a `Digest`, which keeps of a stream of any length as much
//! as a report can show, and counts the rest.

mod advice;
mod cases;
mod digest;
mod github;
mod html;
mod junit;
mod ktap;
mod markdown;
mod outcome;
mod plain;
mod sarif;
mod tap;
mod text;
mod words;

use std::io::{self, Write};

use self::digest::Digest;
use crate::analysis::{Judged, Summary};
use crate::model::{Run, ScenarioResult};
use crate::sink::Sink;
use crate::source::Skipped;

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person at a terminal.
    Text {
        /// With colours.
        colour: bool,
    },
    /// JUnit's XML, as Jenkins' schema `junit-10.xsd` has it.
    Junit,
    /// Test Anything Protocol, version 14.
    Tap,
    /// The kernel's own form of that, KTAP version 1.
    Ktap,
    /// SARIF 2.1.0.
    Sarif,
    /// One page of HTML, which asks for nothing else.
    Html,
    /// Annotations, as the commands of a GitHub workflow.
    Github,
    /// Markdown, for the summary of a job.
    Markdown,
}

/// Collects what is judged, and writes a report of it at the end.
pub struct Report<W> {
    out: W,
    format: Format,
    digest: Digest,
}

impl<W: Write> Report<W> {
    /// Writes to `out`.
    pub fn new(out: W, format: Format) -> Self {
        Self { out, format, digest: Digest::default() }
    }
}

impl<W: Write> Sink for Report<W> {
    fn run(&mut self, run: &Run) -> io::Result<()> {
        self.digest.run(run);
        Ok(())
    }

    fn scenario(&mut self, result: &ScenarioResult) -> io::Result<()> {
        self.digest.scenario(result);
        Ok(())
    }

    fn source(&mut self, name: &str) -> io::Result<()> {
        self.digest.source(name);
        Ok(())
    }

    fn skipped(&mut self, skipped: &Skipped) -> io::Result<()> {
        self.digest.skipped(skipped);
        Ok(())
    }

    fn event(&mut self, judged: &Judged) -> io::Result<()> {
        self.digest.event(judged);
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let (digest, out) = (&self.digest, &mut self.out);
        match self.format {
            Format::Text { colour } => text::write(digest, summary, colour, out),
            Format::Junit => junit::write(digest, summary, out),
            Format::Tap => tap::write(digest, summary, out),
            Format::Ktap => ktap::write(digest, summary, out),
            Format::Sarif => sarif::write(digest, summary, out),
            Format::Html => html::write(digest, summary, out),
            Format::Github => github::write(digest, summary, out),
            Format::Markdown => markdown::write(digest, summary, out),
        }?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
