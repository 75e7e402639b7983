//! Scenarios in SARIF: a rule each, and a result for each case that failed.
//!
//! What passed is no result, for services take each for something to mend; all cases are among the
//! properties of the run.

use serde_json::{Value, json};

use super::RUN;
use crate::model::{CaseOutcome, ScenarioResult};
use crate::report::cases::repeat_with;
use crate::report::digest::Digest;

fn id(result: &ScenarioResult) -> String {
    format!("check/{}", result.name)
}

/// A scenario as a rule.
pub(super) fn rule(result: &ScenarioResult) -> Value {
    let text = format!("Guests of scenario {} see what they should.", result.name);
    json!({ "id": id(result), "name": result.name, "shortDescription": { "text": text } })
}

/// A result for each case that failed. The rules of scenarios begin at this index.
pub(super) fn failures(digest: &Digest, first_rule: usize) -> Vec<Value> {
    let mut failures = vec![];
    for (number, result) in digest.scenarios().enumerate() {
        for case in &result.cases {
            let CaseOutcome::Failed(why) = &case.outcome else { continue };
            let name = &case.name;
            let artifact = json!({ "uri": RUN, "index": 0 });
            failures.push(json!({
                "ruleId": id(result),
                "ruleIndex": first_rule + number,
                "kind": "fail",
                "level": "error",
                "message": { "text": format!("{name}: {why}\n{}", repeat_with(result)) },
                "locations": [{
                    "physicalLocation": { "artifactLocation": artifact },
                    "logicalLocations": [{ "fullyQualifiedName": format!("{}/{name}", result.name) }],
                }],
                "suppressions": [],
                "partialFingerprints": { "case/v1": format!("{}/{name}", result.name) },
            }));
        }
    }
    failures
}

/// What a scenario has not shown, as level and text of notifications.
pub(super) fn notifications(result: &ScenarioResult) -> Vec<(&'static str, String)> {
    let text = |name: &str, what: &str, why: &str| {
        format!("scenario {}: {name}: {what}: {why}", result.name)
    };
    let told = result.cases.iter().filter_map(|case| match &case.outcome {
        CaseOutcome::Incomplete(why) => Some(("error", text(&case.name, "incomplete", why))),
        CaseOutcome::Skipped(why) => Some(("note", text(&case.name, "skipped", why))),
        CaseOutcome::Passed | CaseOutcome::Failed(_) => None,
    });
    told.collect()
}

/// All that is known of a scenario.
pub(super) fn properties(result: &ScenarioResult) -> Value {
    let case = |case: &crate::model::Case| {
        json!({
            "case": case.name,
            "outcome": case.outcome.word(),
            "reason": case.outcome.reason(),
            "seconds": case.took.as_secs_f64(),
        })
    };
    json!({
        "scenario": result.name,
        "outcome": result.word(),
        "seconds": result.took.as_secs_f64(),
        "mismatches": result.mismatches,
        "command": result.command,
        "cases": result.cases.iter().map(case).collect::<Vec<_>>(),
    })
}
