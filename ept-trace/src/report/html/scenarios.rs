//! What came of the scenarios of `check`.

use maud::{Markup, html};

use crate::model::{CaseOutcome, ScenarioResult};
use crate::report::cases::repeat_with;
use crate::report::digest::Digest;

/// A table of all cases, and how to repeat what failed.
pub(super) fn scenarios(digest: &Digest) -> Markup {
    let bad = digest.scenarios().filter(|result| result.is_bad());
    html! {
        @if digest.scenarios().next().is_some() {
            section #scenarios {
                h2 { "Scenarios" }
                @for result in bad {
                    p { "Scenario " (result.name) ": " code { (repeat_with(result)) } }
                }
                section.wide tabindex="0" aria-label="Scenarios" {
                    table.evidence {
                        thead {
                            tr {
                                th scope="col" { "Case" }
                                th scope="col" { "Outcome" }
                                th scope="col" { "Seconds" }
                                th scope="col" { "Why" }
                            }
                        }
                        @for result in digest.scenarios() { (scenario(result)) }
                    }
                }
            }
        }
    }
}

fn scenario(result: &ScenarioResult) -> Markup {
    html! {
        tbody {
            tr {
                th scope="rowgroup" colspan="2" { (result.name) ": " (result.word()) }
                td.value { (seconds(result.took)) }
                td {
                    @if result.mismatches > 0 { "mismatches: " (result.mismatches) }
                }
            }
            @for case in &result.cases {
                tr {
                    th scope="row" { (case.name) }
                    td { span class={ "badge " (class(&case.outcome)) } { (case.outcome.word()) } }
                    td.value { (seconds(case.took)) }
                    td.origin { (case.outcome.reason().unwrap_or_default()) }
                }
            }
        }
    }
}

fn seconds(took: std::time::Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

fn class(outcome: &CaseOutcome) -> &'static str {
    match outcome {
        CaseOutcome::Passed => "ok",
        CaseOutcome::Failed(_) => "mismatch",
        CaseOutcome::Incomplete(_) | CaseOutcome::Skipped(_) => "undetermined",
    }
}
