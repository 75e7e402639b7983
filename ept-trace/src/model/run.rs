//! A run of `check`: where it is, and what came of its scenarios.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// A run of `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Run {
    /// `this machine`, or the lab and which CPU it emulates.
    pub place: String,
    /// The CPU, as it names itself.
    pub cpu: String,
    /// `uname -r`.
    pub release: String,
    /// The command that repeats it, random choices included.
    pub command: String,
}

/// What came of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScenarioResult {
    /// The scenario, as it is called on the command line.
    pub name: String,
    /// Its cases, at least one.
    pub cases: Vec<Case>,
    /// How long it took.
    pub took: Duration,
    /// Mismatches found meanwhile that are not known ones.
    pub mismatches: u64,
    /// The command that repeats this scenario alone.
    pub command: String,
}

/// A part of a scenario, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name; within the scenario there is no other of it.
    pub name: String,
    /// What came of it.
    pub outcome: CaseOutcome,
    /// How long it took.
    pub took: Duration,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// All was as it should be.
    Passed,
    /// What was not.
    Failed(String),
    /// It ran, and this could not be seen.
    Incomplete(String),
    /// Why it could not be run here.
    Skipped(String),
}

impl CaseOutcome {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Incomplete(_) => "incomplete",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Why it did not pass.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(why) | Self::Incomplete(why) | Self::Skipped(why) => Some(why),
        }
    }
}

impl ScenarioResult {
    /// Whether any case failed.
    pub fn has_failed(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.outcome, CaseOutcome::Failed(_)))
    }

    /// Whether any case could not be seen to its end.
    pub fn is_incomplete(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.outcome, CaseOutcome::Incomplete(_)))
    }

    /// Whether no case could be run here.
    pub fn is_skipped(&self) -> bool {
        self.cases.iter().all(|case| matches!(case.outcome, CaseOutcome::Skipped(_)))
    }

    /// Whether it calls for being repeated.
    pub fn is_bad(&self) -> bool {
        self.has_failed() || self.mismatches > 0
    }

    /// As good as its worst case, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            _ if self.has_failed() => "failed",
            _ if self.is_incomplete() => "incomplete",
            _ if self.is_skipped() => "skipped",
            _ => "passed",
        }
    }

    /// Cases that passed.
    pub fn passed(&self) -> usize {
        self.cases.iter().filter(|case| case.outcome == CaseOutcome::Passed).count()
    }
}

/// A line for the scenario, and one for each case that did not pass.
impl fmt::Display for ScenarioResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, passed, all) = (self.word(), self.passed(), self.cases.len());
        let took = self.took.as_secs_f64();
        write!(f, "scenario {}: {word} ({passed} of {all} passed, {took:.1} s)", self.name)?;
        for Case { name, outcome, .. } in &self.cases {
            if let Some(why) = outcome.reason() {
                write!(f, "\n  {name}: {}: {why}", outcome.word())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(outcomes: &[CaseOutcome]) -> ScenarioResult {
        let case = |(number, outcome): (usize, &CaseOutcome)| Case {
            name: format!("case {number}"),
            outcome: outcome.clone(),
            took: Duration::ZERO,
        };
        let cases = outcomes.iter().enumerate().map(case).collect();
        let took = Duration::from_millis(1234);
        ScenarioResult { name: "huge".to_owned(), cases, took, ..ScenarioResult::default() }
    }

    #[test]
    fn a_scenario_is_as_good_as_its_worst_case_and_skipped_only_if_all_are() {
        let passed = CaseOutcome::Passed;
        let failed = CaseOutcome::Failed("0x1, not 0x2".to_owned());
        let skipped = CaseOutcome::Skipped("no pages".to_owned());
        let unseen = CaseOutcome::Incomplete("no root level".to_owned());
        let word = |outcomes: &[&CaseOutcome]| {
            result(&outcomes.iter().map(|outcome| (*outcome).clone()).collect::<Vec<_>>()).word()
        };
        assert_eq!(word(&[&passed, &failed, &skipped, &unseen]), "failed");
        assert_eq!(word(&[&passed, &unseen, &skipped]), "incomplete");
        assert_eq!(word(&[&passed, &skipped]), "passed");
        assert_eq!(word(&[&skipped, &skipped]), "skipped");
        let text = result(&[passed, failed, skipped]).to_string();
        let expected = "scenario huge: failed (1 of 3 passed, 1.2 s)\n  case 1: failed: 0x1, not \
                        0x2\n  case 2: skipped: no pages";
        assert_eq!(text, expected);
    }
}
