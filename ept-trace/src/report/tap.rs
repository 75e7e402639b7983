//! TAP, the Test Anything Protocol, version 14: a test point for each scenario, whose cases are a
//! subtest, and for each rule, with YAML beneath.
//!
//! The YAML is written with JSON's strings, which YAML 1.2 takes as they are.

use std::io::{self, Write};

use super::cases::{Answer, Case, cases_of, evidence, occurrence, points};
use super::digest::Digest;
use super::outcome::sentence;
use super::plain::Plain;
use crate::analysis::Summary;
use crate::model::ScenarioResult;

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let scenarios: Vec<_> = digest.scenarios().collect();
    let points = points(digest);
    writeln!(out, "TAP version 14")?;
    // By the grammar, nothing is between the version and the plan.
    writeln!(out, "1..{}", scenarios.len() + points.len())?;
    writeln!(out, "# {}", sentence(digest, summary))?;
    for source in &digest.sources {
        match source.machine() {
            Some(machine) => writeln!(out, "# {}: {machine}", source.name())?,
            None => writeln!(out, "# {}", source.name())?,
        }
    }
    for stale in &summary.stale {
        writeln!(out, "# known, and not found: {}", Plain::of(stale))?;
    }
    for (index, result) in scenarios.iter().enumerate() {
        subtest(out, index + 1, result)?;
    }
    for (index, case) in points.iter().enumerate() {
        point(out, "", scenarios.len() + index + 1, case)?;
    }
    Ok(())
}

/// A scenario: its cases, four columns in, and then its own point.
fn subtest(out: &mut impl Write, number: usize, result: &ScenarioResult) -> io::Result<()> {
    writeln!(out, "# Subtest: {}", escaped(&result.name))?;
    let cases = cases_of(result);
    writeln!(out, "    1..{}", cases.len())?;
    for (index, case) in cases.iter().enumerate() {
        point(out, "    ", index + 1, case)?;
    }
    let ok = if result.has_failed() || result.is_incomplete() { "not ok" } else { "ok" };
    let skip = if result.is_skipped() { " # SKIP no case could be run" } else { "" };
    writeln!(out, "{ok} {number} - {}{skip}", escaped(&result.name))?;
    writeln!(out, "  ---\n  duration_ms: {}", result.took.as_millis())?;
    writeln!(out, "  mismatches: {}", result.mismatches)?;
    writeln!(out, "  command: {}\n  ...", quoted(&result.command)?)
}

/// A point, `indent` in.
fn point(out: &mut impl Write, indent: &str, number: usize, case: &Case<'_>) -> io::Result<()> {
    let ok = match case.answer {
        Answer::Passed | Answer::Skipped => "ok",
        Answer::Failed | Answer::Incomplete | Answer::Known => "not ok",
    };
    write!(out, "{indent}{ok} {number} - {}", escaped(&case.name))?;
    match case.answer {
        Answer::Skipped => write!(out, " # SKIP {}", escaped(&case.message))?,
        // Its failure is expected, and fails nothing.
        Answer::Known => write!(out, " # TODO known: {}", escaped(&case.message))?,
        Answer::Passed | Answer::Failed | Answer::Incomplete => {}
    }
    writeln!(out)?;
    let has_diagnostics = !case.groups.is_empty() || !case.lines.is_empty() || case.took.is_some();
    if has_diagnostics && case.answer != Answer::Skipped {
        let mut text = vec![];
        diagnostics(&mut text, case)?;
        for line in String::from_utf8_lossy(&text).lines() {
            writeln!(out, "{indent}{line}")?;
        }
    }
    Ok(())
}

fn diagnostics(out: &mut impl Write, case: &Case<'_>) -> io::Result<()> {
    writeln!(out, "  ---")?;
    if !case.message.is_empty() {
        writeln!(out, "  message: {}", quoted(&case.message)?)?;
    }
    if let Some(took) = case.took {
        writeln!(out, "  duration_ms: {}", took.as_millis())?;
    }
    if !case.lines.is_empty() {
        writeln!(out, "  details:")?;
        for line in &case.lines {
            writeln!(out, "    - {}", quoted(line)?)?;
        }
    }
    if !case.groups.is_empty() {
        writeln!(out, "  findings:")?;
    }
    for group in &case.groups {
        writeln!(out, "    - verdict: {}", quoted(&group.verdict.to_string())?)?;
        writeln!(out, "      message: {}", quoted(group.first.message.as_str())?)?;
        if let Some(reason) = &group.known {
            writeln!(out, "      known: {}", quoted(reason.as_str())?)?;
        }
        writeln!(out, "      count: {}", group.count)?;
        writeln!(out, "      about: {}", quoted(&occurrence(group))?)?;
        let evidence = evidence(group);
        if !evidence.is_empty() {
            writeln!(out, "      evidence:")?;
        }
        for line in evidence {
            writeln!(out, "        - {}", quoted(&line)?)?;
        }
    }
    writeln!(out, "  ...")
}

/// What a description may not have as it is.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('#', r"\#")
}

fn quoted(text: &str) -> io::Result<String> {
    Ok(serde_json::to_string(text)?)
}
