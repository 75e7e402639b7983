//! What came of a scenario of `check`, and of its cases.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Case, ScenarioResult};

/// A scenario.
#[derive(Serialize, JsonSchema)]
pub(super) struct ScenarioLine<'a> {
    scenario: &'a str,
    outcome: &'static str,
    seconds: f64,
    mismatches: u64,
    command: &'a str,
}

/// A case of it.
#[derive(Serialize, JsonSchema)]
pub(super) struct CaseLine<'a> {
    scenario: &'a str,
    case: &'a str,
    outcome: &'static str,
    reason: Option<&'a str>,
    seconds: f64,
}

impl<'a> ScenarioLine<'a> {
    pub(super) fn new(result: &'a ScenarioResult) -> Self {
        Self {
            scenario: &result.name,
            outcome: result.word(),
            seconds: result.took.as_secs_f64(),
            mismatches: result.mismatches,
            command: &result.command,
        }
    }
}

impl<'a> CaseLine<'a> {
    pub(super) fn new(result: &'a ScenarioResult, case: &'a Case) -> Self {
        Self {
            scenario: &result.name,
            case: &case.name,
            outcome: case.outcome.word(),
            reason: case.outcome.reason(),
            seconds: case.took.as_secs_f64(),
        }
    }
}
