//! TAP, the Test Anything Protocol, version 14: a test point for each rule, with YAML beneath.
//!
//! The YAML is written with JSON's strings, which YAML 1.2 takes as they are.

use std::io::{self, Write};

use super::cases::{Answer, Case, cases, evidence, occurrence};
use super::digest::Digest;
use super::outcome::sentence;
use crate::analysis::Summary;

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let mut points = vec![];
    for (number, source) in digest.sources.iter().enumerate() {
        let name = source.name();
        let prefix = if digest.sources.len() > 1 { format!("{name}: ") } else { String::new() };
        points.extend(cases(digest, number).into_iter().map(|case| (prefix.clone(), case)));
    }
    writeln!(out, "TAP version 14")?;
    // By the grammar, nothing is between the version and the plan.
    writeln!(out, "1..{}", points.len())?;
    writeln!(out, "# {}", sentence(digest, summary))?;
    for source in &digest.sources {
        match &source.machine {
            Some(machine) => writeln!(out, "# {}: {machine}", source.name())?,
            None => writeln!(out, "# {}", source.name())?,
        }
    }
    for (index, (prefix, case)) in points.iter().enumerate() {
        point(out, index + 1, prefix, case)?;
    }
    Ok(())
}

fn point(out: &mut impl Write, number: usize, prefix: &str, case: &Case<'_>) -> io::Result<()> {
    let ok = match case.answer {
        Answer::Passed | Answer::Skipped => "ok",
        Answer::Failed | Answer::Incomplete => "not ok",
    };
    write!(out, "{ok} {number} - {}", escaped(&format!("{prefix}{}", case.name)))?;
    if case.answer == Answer::Skipped {
        write!(out, " # SKIP {}", escaped(&case.message))?;
    }
    writeln!(out)?;
    let has_diagnostics = !case.groups.is_empty() || !case.not_seen.is_empty();
    if has_diagnostics && case.answer != Answer::Skipped {
        diagnostics(out, case)?;
    }
    Ok(())
}

fn diagnostics(out: &mut impl Write, case: &Case<'_>) -> io::Result<()> {
    writeln!(out, "  ---")?;
    if !case.message.is_empty() {
        writeln!(out, "  message: {}", quoted(&case.message)?)?;
    }
    if !case.not_seen.is_empty() {
        writeln!(out, "  not_seen:")?;
        for line in &case.not_seen {
            writeln!(out, "    - {}", quoted(line)?)?;
        }
    }
    if !case.groups.is_empty() {
        writeln!(out, "  findings:")?;
    }
    for group in &case.groups {
        writeln!(out, "    - verdict: {}", quoted(&group.verdict.to_string())?)?;
        writeln!(out, "      message: {}", quoted(group.first.message.as_str())?)?;
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
