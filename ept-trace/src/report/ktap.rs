//! KTAP, version 1: what the kernel's own tests print, and `kunit.py parse` reads.
//!
//! As `Documentation/dev-tools/ktap.rst` has it: no YAML but diagnostic lines, which come before the
//! result that they are about; a subtest is two columns in, and begins with a version of its own. A
//! description has no `#`.

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
    writeln!(out, "KTAP version 1")?;
    writeln!(out, "1..{}", scenarios.len() + points.len())?;
    writeln!(out, "# {}", sentence(digest, summary))?;
    for source in &digest.sources {
        let machine = source.machine().map(|machine| format!(": {machine}")).unwrap_or_default();
        writeln!(out, "# {}{machine}", source.name())?;
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

fn subtest(out: &mut impl Write, number: usize, result: &ScenarioResult) -> io::Result<()> {
    let name = described(&result.name);
    let cases = cases_of(result);
    writeln!(out, "  KTAP version 1\n  # Subtest: {name}\n  1..{}", cases.len())?;
    for (index, case) in cases.iter().enumerate() {
        point(out, "  ", index + 1, case)?;
    }
    writeln!(out, "# {name}: {:.3} s", result.took.as_secs_f64())?;
    let ok = if result.has_failed() || result.is_incomplete() { "not ok" } else { "ok" };
    let skip = if result.is_skipped() { " # SKIP no case could be run" } else { "" };
    writeln!(out, "{ok} {number} - {name}{skip}")
}

fn point(out: &mut impl Write, indent: &str, number: usize, case: &Case<'_>) -> io::Result<()> {
    let name = described(&case.name);
    for line in diagnostics(case) {
        writeln!(out, "{indent}# {line}")?;
    }
    let ok = match case.answer {
        // What is known is as kselftest tells what is expected to fail.
        Answer::Passed | Answer::Skipped | Answer::Known => "ok",
        Answer::Failed | Answer::Incomplete => "not ok",
    };
    write!(out, "{indent}{ok} {number} - {name}")?;
    match case.answer {
        Answer::Skipped => writeln!(out, " # SKIP {}", case.message),
        Answer::Known => writeln!(out, " # XFAIL known: {}", case.message),
        Answer::Passed | Answer::Failed | Answer::Incomplete => writeln!(out),
    }
}

fn diagnostics(case: &Case<'_>) -> Vec<String> {
    let mut lines = vec![];
    if case.answer == Answer::Skipped {
        return lines;
    }
    if !case.message.is_empty() {
        lines.push(format!("{}: {}", described(&case.name), case.message));
    }
    for group in &case.groups {
        lines.push(format!("  {}: {}", group.verdict, group.first.message));
        lines.push(format!("    {}", occurrence(group)));
        lines.extend(evidence(group).into_iter().map(|line| format!("      {line}")));
    }
    lines.extend(case.lines.iter().map(|line| format!("  {line}")));
    lines.extend(case.took.map(|took| format!("  {:.3} s", took.as_secs_f64())));
    lines
}

/// A description may have no `#`, which begins a directive.
fn described(name: &str) -> String {
    name.replace('#', "_")
}
