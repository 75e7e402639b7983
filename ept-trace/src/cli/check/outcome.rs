//! What came of the guests, and the exit code that it calls for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::analysis::{Judged, Summary};
use crate::cli::Exit;
use crate::guest::{Ended, Guest, Scenario};
use crate::model::{Case, CaseOutcome, EventKind, ScenarioResult};

/// So many guests that did not halt are told one by one, and the others counted.
const FAILURES_TOLD: u64 = 20;

/// The case of the scenario `decision` in which guests are driven.
const GUESTS: &str = "guests";

/// What was seen of the guests, and of the module being loaded. Its size does not grow with the
/// number of guests.
pub(super) struct Outcome {
    /// MAXPHYADDR of the guests that were driven.
    driven: BTreeSet<u8>,
    /// MAXPHYADDR of the guests whose root level was held against an expectation.
    judged: BTreeSet<u32>,
    /// How many guests did not halt, and which was the first, and how it ended.
    failed: u64,
    first_failed: String,
    /// Whether KVM may refuse the CPUID of a guest without that being a failure.
    may_be_refused: bool,
    /// How many guests KVM refused so, and why the first.
    refused: Option<(u64, String)>,
    /// What came of the scenarios that ran to their end or were given up.
    results: Vec<(Scenario, ScenarioResult)>,
    /// When the scenario that is running began.
    began: Instant,
    /// Mismatches that are not known, by the scenario that was running.
    mismatches: BTreeMap<Option<&'static str>, u64>,
    /// Whether the vendor module was seen to set itself up.
    pub(super) set_up: bool,
}

impl Outcome {
    /// Nothing seen yet.
    pub(super) fn new(may_be_refused: bool) -> Self {
        Self {
            driven: BTreeSet::new(),
            judged: BTreeSet::new(),
            failed: 0,
            first_failed: String::new(),
            may_be_refused,
            refused: None,
            results: Vec::new(),
            began: Instant::now(),
            mismatches: BTreeMap::new(),
            set_up: false,
        }
    }

    /// A scenario begins.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Takes in what was judged.
    pub(super) fn note(&mut self, judged: &Judged) {
        if judged.is_mismatch() {
            *self.mismatches.entry(judged.scenario).or_default() += 1;
        }
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
                if self.failed == 1 {
                    self.first_failed = format!("the guest with {guest}: {how}");
                }
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
            failed => {
                let first = &self.first_failed;
                CaseOutcome::Failed(format!("{failed} did not halt, the first: {first}"))
            }
        };
        let took = self.began.elapsed();
        self.ran(Scenario::Decision, vec![Case { name: GUESTS.to_owned(), outcome, took }]);
    }

    /// Takes in, and tells, what came of a scenario.
    pub(super) fn ran(&mut self, scenario: Scenario, cases: Vec<Case>) {
        let name = scenario.name().to_owned();
        let took = self.began.elapsed();
        let result = ScenarioResult { name, cases, took, ..ScenarioResult::default() };
        eprintln!("ept-trace: {result}");
        self.results.push((scenario, result));
    }

    /// Of these scenarios, those that have not come to an end did not run, or failed.
    pub(super) fn not_run(&mut self, scenarios: &[Scenario], why: &CaseOutcome) {
        for &scenario in scenarios {
            if self.results.iter().all(|(ran, _)| *ran != scenario) {
                let (name, took) = ("run".to_owned(), Duration::ZERO);
                let cases = vec![Case { name, outcome: why.clone(), took }];
                let name = scenario.name().to_owned();
                let result = ScenarioResult { name, cases, took, ..ScenarioResult::default() };
                self.results.push((scenario, result));
            }
        }
    }

    /// All is over: what came of the scenarios, each with the `command` that repeats it.
    pub(super) fn results(
        &mut self,
        command: impl Fn(Scenario) -> String,
    ) -> impl Iterator<Item = &ScenarioResult> {
        let levels = self.levels();
        for (scenario, result) in &mut self.results {
            result.command = command(*scenario);
            let found = self.mismatches.get(&Some(scenario.name()));
            result.mismatches = found.copied().unwrap_or_default();
            let has_driven = result.cases.iter().any(|case| case.name == GUESTS);
            if has_driven && !result.is_skipped() {
                result.cases.push(levels.clone());
            }
        }
        self.results.iter().map(|(_, result)| result)
    }

    /// Whether the guests of the scenario `decision` were judged.
    fn levels(&self) -> Case {
        let is_unseen = |bits: &&u8| !self.judged.contains(&u32::from(**bits));
        let unseen: Vec<_> = self.driven.iter().filter(is_unseen).map(u8::to_string).collect();
        let outcome = if self.driven.is_empty() {
            CaseOutcome::Incomplete("no guest was driven".to_owned())
        } else if unseen.is_empty() {
            CaseOutcome::Passed
        } else {
            let list = unseen.join(", ");
            eprintln!("ept-trace: no root level was judged for MAXPHYADDR {list}");
            CaseOutcome::Incomplete(format!("no root level was judged for MAXPHYADDR {list}"))
        };
        Case { name: "root levels".to_owned(), outcome, took: Duration::ZERO }
    }

    /// Says what is not as it should be; the exit code.
    pub(super) fn conclude(&self, summary: &Summary) -> Exit {
        if self.failed > FAILURES_TOLD {
            eprintln!("ept-trace: {} guests did not halt", self.failed);
        }
        if let Some((count, why)) = &self.refused {
            eprintln!("ept-trace: {count} guests were skipped, the first because {why}");
        }
        let results = || self.results.iter().map(|(_, result)| result);
        for result in results().filter(|result| result.is_bad()) {
            eprintln!("ept-trace: scenario {}: repeat it with: {}", result.name, result.command);
        }
        match Exit::of(summary) {
            Exit::Mismatch => Exit::Mismatch,
            _ if results().any(ScenarioResult::has_failed) => Exit::Failure,
            Exit::Clean if results().all(ScenarioResult::is_skipped) => Exit::CannotRun,
            Exit::Clean if results().any(ScenarioResult::is_incomplete) => Exit::Incomplete,
            exit => exit,
        }
    }
}
