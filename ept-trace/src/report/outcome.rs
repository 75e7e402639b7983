//! What a run has come to, in a word and in a sentence.

use std::fmt::Write as _;

use super::advice::advice;
use super::digest::Digest;
use super::words::{count, count_as};
use crate::analysis::Summary;
use crate::model::{Case, CaseOutcome, ScenarioResult, Verdict};

/// What a run has come to; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Some rule is broken.
    Mismatch,
    /// A case of a scenario failed.
    Failed,
    /// Nothing wrong was seen, and not all was seen.
    Incomplete,
    /// No scenario could be run.
    Skipped,
    /// Some rule was asked, and never could answer.
    Undetermined,
    /// No rule was asked.
    Nothing,
    /// All is well.
    Clean,
}

impl Outcome {
    /// Of a run.
    pub(super) fn of(digest: &Digest, summary: &Summary) -> Self {
        let rules = digest.rules();
        let skipped = digest.sources.iter().any(|source| source.skipped > 0);
        if rules.values().any(|counts| counts.mismatch > 0) {
            Self::Mismatch
        } else if digest.scenarios().any(ScenarioResult::has_failed) {
            Self::Failed
        } else if summary.is_incomplete()
            || skipped
            || digest.scenarios().any(ScenarioResult::is_incomplete)
        {
            Self::Incomplete
        } else if digest.scenarios().next().is_some()
            && digest.scenarios().all(ScenarioResult::is_skipped)
        {
            Self::Skipped
        } else if rules.values().any(|counts| counts.is_only_undetermined()) {
            Self::Undetermined
        } else if rules.is_empty() {
            Self::Nothing
        } else {
            Self::Clean
        }
    }

    /// In a word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Mismatch => "MISMATCH",
            Self::Failed => "FAILED",
            Self::Incomplete => "incomplete",
            Self::Skipped => "skipped",
            Self::Undetermined => "undetermined",
            Self::Nothing => "nothing to judge",
            Self::Clean => "clean",
        }
    }
}

/// What a run has come to, in one line that begins with the word for it.
pub(super) fn sentence(digest: &Digest, summary: &Summary) -> String {
    let outcome = Outcome::of(digest, summary);
    let rules = digest.rules();
    let word = outcome.word();
    let mut line = match outcome {
        Outcome::Mismatch => {
            let broken = rules.values().filter(|counts| counts.mismatch > 0).count() as u64;
            let found = count(digest.total().mismatch, "finding");
            format!("{word}: {} broken, {found}", count(broken, "rule"))
        }
        Outcome::Incomplete => format!("{word}: nothing wrong in what was seen"),
        Outcome::Failed => format!("{word}: no rule is broken"),
        Outcome::Skipped => format!("{word}: it cannot run here"),
        Outcome::Undetermined => format!("{word}: nothing wrong was found"),
        Outcome::Nothing => format!("{word}: no rule is about what was seen"),
        Outcome::Clean => {
            let walks = count(summary.walks, "walk");
            format!("{word}: {}, {walks}, nothing wrong", count(summary.decisions, "decision"))
        }
    };
    let rest = [tried(digest), not_seen(digest, summary), not_judged(digest)];
    for what in rest.into_iter().flatten() {
        let _ = write!(line, "; {what}");
    }
    let complaints = digest.complaints.count();
    if complaints > 0 {
        let _ = write!(line, "; {} by kernel or VMM", count(complaints, "complaint"));
    }
    let advisories = digest.total().advisory;
    if advisories > 0 {
        let _ = write!(line, "; {}", count_as(advisories, "advisory", "advisories"));
    }
    let known = digest.total().known;
    if known > 0 {
        let _ = write!(line, "; {}", count_as(known, "known mismatch", "known mismatches"));
    }
    if !summary.stale.is_empty() {
        let stale = count_as(summary.stale.len() as u64, "entry", "entries");
        let _ = write!(line, "; {stale} of the baseline not found");
    }
    line
}

/// How many cases came out how, if any were run.
fn tried(digest: &Digest) -> Option<String> {
    let cases = || digest.scenarios().flat_map(|result| &result.cases);
    let number =
        |is: fn(&CaseOutcome) -> bool| cases().filter(|case: &&Case| is(&case.outcome)).count();
    let (passed, all) = (number(|outcome| *outcome == CaseOutcome::Passed), cases().count());
    let mut line = format!("{passed} of {} passed", count(all as u64, "case"));
    let others = [
        (number(|outcome| matches!(outcome, CaseOutcome::Failed(_))), "failed"),
        (number(|outcome| matches!(outcome, CaseOutcome::Incomplete(_))), "incomplete"),
        (number(|outcome| matches!(outcome, CaseOutcome::Skipped(_))), "skipped"),
    ];
    for (number, how) in others.into_iter().filter(|(number, _)| *number > 0) {
        let _ = write!(line, ", {number} {how}");
    }
    (all > 0).then_some(line)
}

/// What is missing, if something is.
pub(super) fn not_seen(digest: &Digest, summary: &Summary) -> Option<String> {
    let skipped = digest.sources.iter().map(|source| source.skipped).sum();
    let parts = [
        (summary.lost, count(summary.lost, "record") + " lost"),
        (summary.gaps, count(summary.gaps, "gap")),
        (skipped, count(skipped, "place") + " of the input not read"),
    ];
    let parts: Vec<_> =
        parts.into_iter().filter(|(number, _)| *number > 0).map(|(_, what)| what).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What could not be judged, and what to add, if something could not.
fn not_judged(digest: &Digest) -> Option<String> {
    let undetermined = digest.total().undetermined;
    if undetermined == 0 {
        return None;
    }
    let rules = digest.rules();
    let mut line = count(undetermined, "judgement") + " undetermined";
    let never = rules.iter().filter(|(_, counts)| counts.is_only_undetermined());
    let never: Vec<_> = never.map(|(rule, _)| *rule).collect();
    if !never.is_empty() {
        let _ = write!(line, " (never judged: {})", never.join(", "));
    }
    let groups = digest.findings.with(Verdict::Undetermined);
    let add = advice(groups.iter().map(|group| group.first.message.as_str()));
    let flags = add.iter().map(|advice| advice.add).filter(|add| add.starts_with("--"));
    let flags: Vec<_> = flags.collect();
    if !flags.is_empty() {
        let _ = write!(line, ": add {}", flags.join(", "));
    }
    Some(line)
}
