//! A run as test cases, for JUnit and TAP: those of the scenarios, one for each rule, and one for
//! whether all was seen.

use std::fmt::Write as _;
use std::time::Duration;

use super::digest::{Counts, Digest, Example, Group, Piece, Source};
use super::plain::Plain;
use super::words::{count, seconds};
use crate::model::{CaseOutcome, ScenarioResult, Verdict};
use crate::rules::RULES;

/// A test case.
pub(super) struct Case<'a> {
    /// A rule by id and name, `completeness`, or a case of a scenario.
    pub name: String,
    /// How it went.
    pub answer: Answer,
    /// Why, in a line; empty if nothing is to be said.
    pub message: String,
    /// What the rule has found, the worst first.
    pub groups: Vec<&'a Group>,
    /// What is to be said besides, line by line: what was not seen, how to repeat it.
    pub lines: Vec<String>,
    /// How long it took, where it is one that was run.
    pub took: Option<Duration>,
}

/// How a test case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The rule holds; there may be advice, or what could not be judged.
    Passed,
    /// The rule is broken; the case failed.
    Failed,
    /// The rule is broken in ways that are known.
    Known,
    /// The rule could not be judged, or there was nothing to judge; the case could not be run.
    Skipped,
    /// Not all was seen.
    Incomplete,
}

/// The test cases of a source.
pub(super) fn cases(digest: &Digest, number: usize) -> Vec<Case<'_>> {
    let Some(source) = digest.sources.get(number) else { return vec![] };
    let rules = source.rules();
    let mut cases = vec![completeness(source)];
    for rule in RULES {
        let counts = rules.get(rule.id).copied().unwrap_or_default();
        let groups = digest.findings.of(number, rule.id);
        let (answer, message) = judge(counts, &groups);
        let name = format!("{} {}", rule.id, rule.name);
        cases.push(Case { name, answer, message, groups, lines: vec![], took: None });
    }
    cases
}

/// The test cases of all sources; of several, each has the name of its source before its own.
pub(super) fn points(digest: &Digest) -> Vec<Case<'_>> {
    let mut points = vec![];
    for (number, source) in digest.sources.iter().enumerate() {
        for mut case in cases(digest, number) {
            if digest.sources.len() > 1 {
                case.name = format!("{}: {}", source.name(), case.name);
            }
            points.push(case);
        }
    }
    points
}

fn judge(counts: Counts, groups: &[&Group]) -> (Answer, String) {
    let worst = groups.first().map_or("", |group| group.first.message.as_str());
    let more = |number: u64| match number {
        1 => worst.to_owned(),
        number => format!("{worst} ({} in all)", count(number, "finding")),
    };
    if counts.mismatch > 0 {
        (Answer::Failed, more(counts.mismatch))
    } else if counts.known > 0 {
        let reason = groups.iter().find_map(|group| group.known.as_ref());
        (Answer::Known, reason.map(Plain::to_string).unwrap_or_default())
    } else if counts.all() == 0 {
        (Answer::Skipped, "nothing to judge".to_owned())
    } else if counts.is_only_undetermined() {
        (Answer::Skipped, format!("undetermined: {worst}"))
    } else {
        (Answer::Passed, String::new())
    }
}

fn completeness(source: &Source) -> Case<'static> {
    let name = "completeness".to_owned();
    if !source.is_incomplete() {
        let (answer, message) = (Answer::Passed, String::new());
        return Case { name, answer, message, groups: vec![], lines: vec![], took: None };
    }
    let (lost, gaps) = (count(source.lost, "record"), count(source.gaps, "gap"));
    let message = format!("{lost} lost, {gaps}, {} not read", count(source.skipped, "place"));
    let (answer, lines) = (Answer::Incomplete, source.not_seen());
    Case { name, answer, message, groups: vec![], lines, took: None }
}

/// The test cases of a scenario.
pub(super) fn cases_of(result: &ScenarioResult) -> Vec<Case<'_>> {
    let case = |case: &crate::model::Case| {
        let answer = match case.outcome {
            CaseOutcome::Passed => Answer::Passed,
            CaseOutcome::Failed(_) => Answer::Failed,
            CaseOutcome::Incomplete(_) => Answer::Incomplete,
            CaseOutcome::Skipped(_) => Answer::Skipped,
        };
        let repeat = matches!(answer, Answer::Failed | Answer::Incomplete);
        Case {
            name: case.name.clone(),
            answer,
            message: case.outcome.reason().unwrap_or_default().to_owned(),
            groups: vec![],
            lines: repeat.then(|| repeat_with(result)).into_iter().collect(),
            took: Some(case.took),
        }
    };
    result.cases.iter().map(case).collect()
}

/// How to repeat a scenario.
pub(super) fn repeat_with(result: &ScenarioResult) -> String {
    format!("repeat it with: {}", result.command)
}

/// The evidence of findings of one kind, line by line.
pub(super) fn evidence(group: &Group) -> Vec<String> {
    let Example { evidence, more_evidence, .. } = &group.first;
    let line = |piece: &Piece| format!("{} = {}  ({})", piece.what, piece.value, piece.origin);
    let mut lines: Vec<_> = evidence.iter().map(line).collect();
    if *more_evidence > 0 {
        lines.push(format!("and {more_evidence} more"));
    }
    lines
}

/// When, how often, and about what, in a line.
pub(super) fn occurrence(group: &Group) -> String {
    let mut line = format!("at {} s: {}", seconds(group.first_ns), group.first.about);
    if let Some(scenario) = group.first.scenario {
        let _ = write!(line, ", in scenario {scenario}");
    }
    if group.count > 1 {
        let _ = write!(line, "; {} in all, the last at {} s", group.count, seconds(group.last_ns));
    }
    line
}

/// Whether it is worth a line: what a rule that holds says besides.
pub(super) fn is_note(group: &Group) -> bool {
    matches!(group.verdict, Verdict::Advisory | Verdict::Undetermined)
}
