//! What came of the scenarios.

use std::fmt;

use crate::guest::{Case, CaseOutcome, Scenario};

/// What came of a scenario.
pub(super) struct Report {
    /// The scenario.
    pub(super) scenario: Scenario,
    /// Its cases, at least one.
    pub(super) cases: Vec<Case>,
}

impl Report {
    /// Whether any case failed.
    pub(super) fn has_failed(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.outcome, CaseOutcome::Failed(_)))
    }

    /// Whether no case could be run here.
    pub(super) fn is_skipped(&self) -> bool {
        self.cases.iter().all(|case| matches!(case.outcome, CaseOutcome::Skipped(_)))
    }
}

/// A line for the scenario, and one for each case that did not pass.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = self.scenario;
        let outcome = match self {
            _ if self.has_failed() => "failed",
            _ if self.is_skipped() => "skipped",
            _ => "passed",
        };
        let passed = self.cases.iter().filter(|case| case.outcome == CaseOutcome::Passed).count();
        write!(f, "scenario {scenario}: {outcome} ({passed} of {} passed)", self.cases.len())?;
        for Case { name, outcome } in &self.cases {
            match outcome {
                CaseOutcome::Passed => {}
                CaseOutcome::Failed(what) => write!(f, "\n  {name}: failed: {what}")?,
                CaseOutcome::Skipped(why) => write!(f, "\n  {name}: skipped: {why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[CaseOutcome]) -> Report {
        let case = |(number, outcome): (usize, &CaseOutcome)| Case {
            name: format!("case {number}"),
            outcome: outcome.clone(),
        };
        let cases = outcomes.iter().enumerate().map(case).collect();
        Report { scenario: Scenario::Huge, cases }
    }

    #[test]
    fn a_scenario_is_as_good_as_its_worst_case_and_skipped_only_if_all_are() {
        let passed = CaseOutcome::Passed;
        let failed = CaseOutcome::Failed("0x1, not 0x2".to_owned());
        let skipped = CaseOutcome::Skipped("no pages".to_owned());
        let of = |outcomes: &[CaseOutcome]| {
            let report = report(outcomes);
            (report.has_failed(), report.is_skipped())
        };
        assert_eq!(of(&[passed.clone(), failed.clone(), skipped.clone()]), (true, false));
        assert_eq!(of(&[passed.clone(), skipped.clone()]), (false, false));
        assert_eq!(of(&[skipped.clone(), skipped.clone()]), (false, true));
        let text = report(&[passed, failed, skipped]).to_string();
        let expected = "scenario huge: failed (1 of 3 passed)\n  case 1: failed: 0x1, not 0x2\n  \
                        case 2: skipped: no pages";
        assert_eq!(text, expected);
    }
}
