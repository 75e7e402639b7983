//! Markdown, for the summary of a job: the verdict, the scenarios, the findings.

use std::io::{self, Write};

use super::cases::{evidence, occurrence, repeat_with};
use super::digest::{Digest, Group, Source};
use super::outcome::{Outcome, sentence};
use super::plain::Plain;
use super::words::rule_name;
use crate::analysis::Summary;
use crate::model::{ScenarioResult, Verdict};

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let sign = match Outcome::of(digest, summary) {
        Outcome::Mismatch | Outcome::Failed => "❌",
        Outcome::Incomplete | Outcome::Undetermined => "⚠️",
        Outcome::Skipped | Outcome::Nothing => "⏭️",
        Outcome::Clean => "✅",
    };
    writeln!(out, "## {sign} ept-trace: {}\n", text(&sentence(digest, summary)))?;
    for source in &digest.sources {
        let machine = source.machine().map(|machine| format!(": {machine}")).unwrap_or_default();
        writeln!(out, "- {}", text(&format!("{}{machine}", source.name())))?;
        if let Some(run) = &source.run {
            writeln!(out, "- {}", code(&run.command))?;
        }
    }
    scenarios(digest, out)?;
    findings(out, "Findings", &digest.findings.with(Verdict::Mismatch))?;
    findings(out, "Advisories", &digest.findings.with(Verdict::Advisory))?;
    findings(out, "Known", &digest.findings.known())?;
    if !summary.stale.is_empty() {
        writeln!(out, "\n### In the baseline, and not found\n")?;
    }
    for stale in &summary.stale {
        writeln!(out, "- {}", text(Plain::of(stale).as_str()))?;
    }
    let mut incomplete = digest.sources.iter().filter(|source| source.is_incomplete()).peekable();
    if incomplete.peek().is_some() {
        writeln!(out, "\n### Not seen\n")?;
    }
    for line in incomplete.flat_map(Source::not_seen) {
        writeln!(out, "- {}", text(&line))?;
    }
    writeln!(out)
}

fn scenarios(digest: &Digest, out: &mut impl Write) -> io::Result<()> {
    if digest.scenarios().next().is_none() {
        return Ok(());
    }
    writeln!(out, "\n| Scenario | | Passed | Seconds | |\n|---|---|---:|---:|---|")?;
    for result in digest.scenarios() {
        let (passed, all) = (result.passed(), result.cases.len());
        let took = result.took.as_secs_f64();
        let (name, word, notes) = (text(&result.name), result.word(), notes(result));
        writeln!(out, "| {name} | {word} | {passed} of {all} | {took:.1} | {notes} |")?;
    }
    Ok(())
}

/// What is to be said of a scenario, in one cell.
fn notes(result: &ScenarioResult) -> String {
    let note = |case: &crate::model::Case| {
        let why = case.outcome.reason()?;
        Some(text(&format!("{}: {}: {why}", case.name, case.outcome.word())))
    };
    let mut notes: Vec<_> = result.cases.iter().filter_map(note).collect();
    if result.mismatches > 0 {
        notes.push(format!("mismatches: {}", result.mismatches));
    }
    if result.is_bad() {
        notes.push(text(&repeat_with(result)));
    }
    notes.join("<br>")
}

fn findings(out: &mut impl Write, title: &str, groups: &[&Group]) -> io::Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### {title}\n")?;
    for group in groups {
        let (rule, name, verdict) = (group.rule, rule_name(group.rule), group.verdict);
        writeln!(out, "- **{rule} {name}** {verdict}: {}", text(group.first.message.as_str()))?;
        if let Some(reason) = &group.known {
            writeln!(out, "  - known: {}", text(reason.as_str()))?;
        }
        writeln!(out, "  - {}", text(&occurrence(group)))?;
        for line in evidence(group) {
            writeln!(out, "  - {}", code(&line))?;
        }
    }
    Ok(())
}

/// Text that is nothing but text: no markup, no link, no mention of anybody.
fn text(plain: &str) -> String {
    let mut text = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => text += "&amp;",
            '<' => text += "&lt;",
            '>' => text += "&gt;",
            '@' => text += "&#64;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => text.extend(['\\', c]),
            // Else a bare address would be made a link.
            ':' => text += "&#58;",
            c => text.push(c),
        }
    }
    text
}

/// The same, as code.
fn code(plain: &str) -> String {
    format!("`{}`", plain.replace('`', "'").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_nothing_but_text() {
        assert_eq!(
            text("a|b *c* <d> @e `f` [g](h)"),
            r"a\|b \*c\* &lt;d&gt; &#64;e \`f\` \[g\](h)"
        );
        assert_eq!(text("see http://x"), "see http&#58;//x");
        assert_eq!(code("a `b` | c"), r"`a 'b' \| c`");
    }
}
