//! What came of the guests, and the exit code that it calls for.

use std::collections::BTreeSet;

use super::report::Report;
use crate::analysis::{Judged, Summary};
use crate::cli::Exit;
use crate::guest::{Case, CaseOutcome, Ended, Guest, Scenario};
use crate::model::EventKind;

/// So many guests that did not halt are told one by one, and the others counted.
const FAILURES_TOLD: u64 = 20;

/// What was seen of the guests, and of the module being loaded. Its size does not grow with the
/// number of guests.
#[derive(Default)]
pub(super) struct Outcome {
    /// MAXPHYADDR of the guests that were driven.
    driven: BTreeSet<u8>,
    /// MAXPHYADDR of the guests whose root level was held against an expectation.
    judged: BTreeSet<u32>,
    /// How many guests did not halt.
    failed: u64,
    /// Whether KVM may refuse the CPUID of a guest without that being a failure.
    may_be_refused: bool,
    /// How many guests KVM refused so, and why the first.
    refused: Option<(u64, String)>,
    /// What came of the scenarios that ran to their end or were given up.
    reports: Vec<Report>,
    /// Whether the vendor module was seen to set itself up.
    pub(super) set_up: bool,
}

impl Outcome {
    /// Nothing seen yet.
    pub(super) fn new(may_be_refused: bool) -> Self {
        Self { may_be_refused, ..Self::default() }
    }

    /// Takes in what was judged.
    pub(super) fn note(&mut self, judged: &Judged) {
        match &judged.event.kind {
            EventKind::Decision(decision) if judged.is_judged() => {
                self.judged.extend(decision.maxphyaddr);
            }
            EventKind::ConfigureMmu(_) => self.set_up = true,
            _ => {}
        }
    }

    /// Takes in how a guest ended.
    pub(super) fn ended(&mut self, guest: &Guest, ended: Ended) {
        match ended {
            Ended::Halted => self.driven.extend(guest.maxphyaddrs()),
            Ended::Refused(why) if self.may_be_refused => {
                self.refused.get_or_insert((0, why)).0 += 1;
            }
            Ended::Refused(how) | Ended::Otherwise(how) => {
                self.driven.extend(guest.maxphyaddrs());
                self.failed += 1;
                if self.failed <= FAILURES_TOLD {
                    eprintln!("ept-trace: the guest with {guest} did not halt: {how}");
                }
            }
        }
    }

    /// All guests of the scenario `decision` were driven.
    pub(super) fn drove(&mut self) {
        let outcome = match self.failed {
            0 => CaseOutcome::Passed,
            failed => CaseOutcome::Failed(format!("{failed} did not halt")),
        };
        self.ran(Scenario::Decision, vec![Case { name: "guests".to_owned(), outcome }]);
    }

    /// Takes in, and tells, what came of a scenario.
    pub(super) fn ran(&mut self, scenario: Scenario, cases: Vec<Case>) {
        let report = Report { scenario, cases };
        eprintln!("ept-trace: {report}");
        self.reports.push(report);
    }

    /// Says what is not as it should be; the exit code.
    pub(super) fn conclude(&self, summary: &Summary) -> Exit {
        if self.failed > FAILURES_TOLD {
            eprintln!("ept-trace: {} guests did not halt", self.failed);
        }
        if let Some((count, why)) = &self.refused {
            eprintln!("ept-trace: {count} guests were skipped, the first because {why}");
        }
        let is_unseen = |bits: &&u8| !self.judged.contains(&u32::from(**bits));
        let unseen: Vec<_> = self.driven.iter().filter(is_unseen).map(u8::to_string).collect();
        if !unseen.is_empty() {
            let list = unseen.join(", ");
            eprintln!("ept-trace: no root level was judged for MAXPHYADDR {list}");
        }
        let decided = self
            .reports
            .iter()
            .any(|report| report.scenario == Scenario::Decision && !report.is_skipped());
        match Exit::of(summary) {
            Exit::Mismatch => Exit::Mismatch,
            _ if self.failed > 0 || self.reports.iter().any(Report::has_failed) => Exit::Failure,
            Exit::Clean if self.reports.iter().all(Report::is_skipped) => Exit::CannotRun,
            Exit::Clean if !unseen.is_empty() || decided && self.driven.is_empty() => {
                Exit::Incomplete
            }
            exit => exit,
        }
    }
}
