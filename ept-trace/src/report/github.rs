//! Annotations of a GitHub workflow: commands among what a step prints, a line each.
//!
//! `::error title=...::...`, where what means something in a command stands there by its number:
//! `toolkit/packages/core/src/command.ts` of GitHub's own `actions` has the rule.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::cases::{evidence, occurrence, repeat_with};
use super::digest::{Digest, Group, Source};
use super::outcome::{Outcome, not_seen, sentence};
use super::plain::Plain;
use super::words::rule_name;
use crate::analysis::Summary;
use crate::model::{CaseOutcome, Verdict};

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let level = match Outcome::of(digest, summary) {
        Outcome::Mismatch | Outcome::Failed => "error",
        Outcome::Incomplete | Outcome::Skipped => "warning",
        Outcome::Undetermined | Outcome::Nothing | Outcome::Clean => "notice",
    };
    let mut whole = sentence(digest, summary);
    for source in &digest.sources {
        let machine = source.machine().map(|machine| format!(": {machine}")).unwrap_or_default();
        let _ = write!(whole, "\n{}{machine}", source.name());
    }
    annotate(out, level, "ept-trace", &whole)?;
    for group in digest.findings.with(Verdict::Mismatch) {
        finding(out, "error", group)?;
    }
    cases(digest, out)?;
    if not_seen(digest, summary).is_some() {
        let lines: Vec<_> = digest.sources.iter().flat_map(Source::not_seen).collect();
        annotate(out, "warning", "ept-trace: not seen", &lines.join("\n"))?;
    }
    for group in digest.findings.with(Verdict::Advisory) {
        finding(out, "warning", group)?;
    }
    for group in digest.findings.known() {
        finding(out, "notice", group)?;
    }
    for stale in &summary.stale {
        annotate(out, "notice", "ept-trace: known, and not found", Plain::of(stale).as_str())?;
    }
    Ok(())
}

/// What is to be said of cases that did not pass.
fn cases(digest: &Digest, out: &mut impl Write) -> io::Result<()> {
    for result in digest.scenarios() {
        for case in &result.cases {
            let level = match case.outcome {
                CaseOutcome::Passed => continue,
                CaseOutcome::Failed(_) => "error",
                CaseOutcome::Incomplete(_) => "warning",
                CaseOutcome::Skipped(_) => "notice",
            };
            let (word, why) = (case.outcome.word(), case.outcome.reason().unwrap_or_default());
            let title = format!("{}: {} {word}", result.name, case.name);
            let repeat = match case.outcome {
                CaseOutcome::Skipped(_) => String::new(),
                _ => format!("\n{}", repeat_with(result)),
            };
            annotate(out, level, &title, &format!("{why}{repeat}"))?;
        }
    }
    Ok(())
}

fn finding(out: &mut impl Write, level: &str, group: &Group) -> io::Result<()> {
    let title = format!("{} {}: {}", group.rule, rule_name(group.rule), group.verdict);
    let mut lines = vec![group.first.message.to_string()];
    lines.extend(group.known.as_ref().map(|reason| format!("known: {reason}")));
    lines.push(occurrence(group));
    lines.extend(evidence(group));
    annotate(out, level, &title, &lines.join("\n"))
}

fn annotate(out: &mut impl Write, level: &str, title: &str, text: &str) -> io::Result<()> {
    writeln!(out, "::{level} title={}::{}", property(title), data(text))
}

/// What comes after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_command_stands_there_by_its_number() {
        let mut out = vec![];
        annotate(&mut out, "error", "a: b, 50%", "1% of\r\n::error::x, y: z").unwrap();
        let expected = "::error title=a%3A b%2C 50%25::1%25 of%0D%0A::error::x, y: z\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
