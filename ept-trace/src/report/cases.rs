//! A run as test cases, for JUnit and TAP: one for each rule, and one for whether all was seen.

use super::digest::{Counts, Digest, Group, Source};
use super::words::{count, seconds};
use crate::model::Verdict;
use crate::rules::RULES;

/// A test case.
pub(super) struct Case<'a> {
    /// A rule by id and name, or `completeness`.
    pub name: String,
    /// How it went.
    pub answer: Answer,
    /// Why, in a line; empty if nothing is to be said.
    pub message: String,
    /// What the rule has found, the worst first.
    pub groups: Vec<&'a Group>,
    /// What was not seen, line by line.
    pub not_seen: Vec<String>,
}

/// How a test case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The rule holds; there may be advice, or what could not be judged.
    Passed,
    /// The rule is broken.
    Failed,
    /// The rule could not be judged, or there was nothing to judge.
    Skipped,
    /// Not all was seen.
    Incomplete,
}

/// The test cases of a source.
pub(super) fn cases(digest: &Digest, number: usize) -> Vec<Case<'_>> {
    let Some(source) = digest.sources.get(number) else { return vec![] };
    let mut cases = vec![completeness(source)];
    for rule in RULES {
        let counts = source.rules.get(rule.id).copied().unwrap_or_default();
        let groups = digest.findings.of(number, rule.id);
        let (answer, message) = judge(counts, &groups);
        let name = format!("{} {}", rule.id, rule.name);
        cases.push(Case { name, answer, message, groups, not_seen: vec![] });
    }
    cases
}

fn judge(counts: Counts, groups: &[&Group]) -> (Answer, String) {
    let worst = groups.first().map_or("", |group| group.examples[0].message.as_str());
    let more = |number: u64| match number {
        1 => worst.to_owned(),
        number => format!("{worst} ({} in all)", count(number, "finding")),
    };
    if counts.mismatch > 0 {
        (Answer::Failed, more(counts.mismatch))
    } else if counts.all() == 0 {
        (Answer::Skipped, "nothing to judge".to_owned())
    } else if counts.is_only_undetermined() {
        (Answer::Skipped, format!("undetermined: {worst}"))
    } else {
        (Answer::Passed, String::new())
    }
}

fn completeness(source: &Source) -> Case<'static> {
    let is_incomplete = source.is_incomplete();
    let mut not_seen = vec![];
    for gone in &source.interruptions {
        not_seen.push(format!("at {}: {}", seconds(gone.time_ns), gone.what));
    }
    if source.more_interruptions > 0 {
        not_seen.push(format!("and {} more times", source.more_interruptions));
    }
    for place in &source.skipped_first {
        not_seen.push(format!("passed over: {place}"));
    }
    let more = source.skipped.saturating_sub(source.skipped_first.len() as u64);
    if more > 0 {
        not_seen.push(format!("and {} passed over", count(more, "more place")));
    }
    let message = if is_incomplete {
        let (lost, gaps) = (count(source.lost, "record"), count(source.gaps, "gap"));
        format!("{lost} lost, {gaps}, {} not read", count(source.skipped, "place"))
    } else {
        String::new()
    };
    Case {
        name: "completeness".to_owned(),
        answer: if is_incomplete { Answer::Incomplete } else { Answer::Passed },
        message,
        groups: vec![],
        not_seen,
    }
}

/// The evidence of findings of one kind, line by line.
pub(super) fn evidence(group: &Group) -> Vec<String> {
    let Some(example) = group.examples.first() else { return vec![] };
    let pieces = example.evidence.iter();
    let mut lines: Vec<_> = pieces
        .map(|piece| format!("{} = {}  ({})", piece.what, piece.value, piece.origin))
        .collect();
    if example.more_evidence > 0 {
        lines.push(format!("and {} more", example.more_evidence));
    }
    lines
}

/// When, how often, and about what, in a line.
pub(super) fn occurrence(group: &Group) -> String {
    let Some(example) = group.examples.first() else { return String::new() };
    let mut line = format!("at {}: {}", seconds(group.first_ns), example.about);
    if group.count > 1 {
        line += &format!("; {} in all, last at {}", group.count, seconds(group.last_ns));
    }
    line
}

/// Whether it is worth a line: what a rule that holds says besides.
pub(super) fn is_note(group: &Group) -> bool {
    matches!(group.verdict, Verdict::Advisory | Verdict::Undetermined)
}
