//! The driver: takes observations in order, lets the rules judge, and keeps count.

mod baseline;
mod summary;

use std::borrow::Cow;

use crate::model::{Event, EventKind, Evidence, Judgement, KernelFacts, Mode, Verdict};
use crate::oracle::{End, IN_A_LOG, Known, Translated, replay};
use crate::rules::ask;

pub use baseline::{BadBaseline, Baseline};
pub use summary::{HookCounts, LevelShape, Summary};

/// An observation with what the rules say of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The observation.
    pub event: Event,
    /// What each rule that it concerns says.
    pub judgements: Cow<'static, [Judgement]>,
    /// For a decision: which MMU was set up, as far as that can be told.
    pub mode: Option<Mode>,
    /// For a decision: the root level that it should have.
    pub expected_level: Option<u8>,
    /// Why no rule was asked.
    pub not_judged: Option<String>,
    /// For a walk: where the hardware gets by it, or why that cannot be told.
    pub walk_end: Option<Result<End, String>>,
    /// The scenario of `check` that was running.
    pub scenario: Option<&'static str>,
}

impl Judged {
    /// An observation of which nothing is said.
    pub fn of(event: Event) -> Self {
        Self {
            event,
            judgements: Cow::Borrowed(&[]),
            mode: None,
            expected_level: None,
            not_judged: None,
            walk_end: None,
            scenario: None,
        }
    }

    /// Whether it is a root-level decision.
    pub fn is_decision(&self) -> bool {
        matches!(self.event.kind, EventKind::Decision(_))
    }

    /// Whether the root level was held against an expectation.
    pub fn is_judged(&self) -> bool {
        self.judgements.iter().any(|judgement| {
            judgement.rule == "EPT103" && judgement.verdict != Verdict::Undetermined
        })
    }

    /// Whether it is a mismatch, and not only known ones.
    pub fn is_mismatch(&self) -> bool {
        let is_new =
            |found: &Judgement| found.verdict == Verdict::Mismatch && found.known.is_none();
        self.judgements.iter().any(is_new)
    }

    /// The worst of the verdicts; ok where no rule has anything to say.
    pub fn verdict(&self) -> Verdict {
        self.judgements.iter().map(|judgement| judgement.verdict).max().unwrap_or(Verdict::Ok)
    }
}

/// Judges a stream of observations.
#[derive(Debug, Default)]
pub struct Analysis {
    known: Known,
    summary: Summary,
    /// What speaks against the files that are being judged.
    caveat: Option<Evidence>,
    /// Findings that are known.
    baseline: Baseline,
    /// The scenario of `check` that is running.
    scenario: Option<&'static str>,
    /// What was judged last.
    judged: Option<Judged>,
}

impl Analysis {
    /// Judges the next observation.
    pub fn judge(&mut self, mut event: Event) -> &Judged {
        let looked_up = match &mut event.kind {
            EventKind::Walk(walk) if walk.observed_by == IN_A_LOG => self.known.complete(walk),
            _ => Ok(()),
        };
        self.known.learn(&event.kind);
        self.known.follow(&event);
        let not_judged = looked_up.err().or_else(|| self.why_not_judged(&event));
        let mut judgements = match &not_judged {
            None => ask(&event, &self.known),
            Some(_) => Cow::Borrowed(&[][..]),
        };
        // What is not its own is ok.
        let found = match &mut judgements {
            Cow::Owned(found) => &mut found[..],
            Cow::Borrowed(_) => &mut [],
        };
        if let Some(caveat) = &self.caveat {
            let wrong = found.iter_mut().filter(|found| found.verdict == Verdict::Mismatch);
            wrong.for_each(|found| found.evidence.push(caveat.clone()));
        }
        let kernel = self.known.facts().map(|facts| facts.release.as_str());
        self.baseline.mark(found, kernel, self.scenario);
        let end = |walk: &Result<Translated, String>| match walk {
            Ok(walk) => Ok(walk.end),
            Err(why) => Err(why.clone()),
        };
        let judged = self.judged.insert(Judged {
            walk_end: self.known.translated().map(end),
            judgements,
            mode: None,
            expected_level: None,
            not_judged,
            scenario: self.scenario,
            event,
        });
        if let EventKind::Decision(decision) = &judged.event.kind
            && let Ok(replay) = replay(&self.known.replay_inputs(decision))
        {
            judged.mode = Some(replay.mode);
            // An expectation that no rule vouches for is none.
            judged.expected_level = replay.level.filter(|_| judged.is_judged());
        }
        self.known.note(&judged.event.kind);
        self.summary.count(judged);
        judged
    }

    /// Of a log it may be known why none of its walks can be judged, which is not said of each.
    fn why_not_judged(&self, event: &Event) -> Option<String> {
        let EventKind::Walk(walk) = &event.kind else { return None };
        let translated = self.known.translated()?;
        translated.as_ref().err().filter(|_| walk.observed_by == IN_A_LOG).cloned()
    }

    /// Takes in what somebody says of the machine, which is not to be judged.
    pub fn assume(&mut self, facts: KernelFacts) {
        self.known.learn(&EventKind::Facts(Box::new(facts)));
    }

    /// What is judged comes from a file that a changed byte does not show in: each mismatch says so.
    pub fn beware(&mut self, caveat: Option<&Evidence>) {
        if self.caveat.as_ref() != caveat {
            self.caveat = caveat.cloned();
        }
    }

    /// These findings are known.
    pub fn accept(&mut self, baseline: Baseline) {
        self.baseline = baseline;
    }

    /// What comes next was made by this scenario of `check`.
    pub fn run_scenario(&mut self, scenario: Option<&'static str>) {
        self.scenario = scenario;
    }

    /// What is said to be known, and was not found: a line for each.
    pub fn stale(&self) -> Vec<String> {
        self.baseline.stale()
    }

    /// What is known at this point of the stream.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Takes in an observation that is not to be judged.
    pub fn pass_over(&mut self, event: &Event) {
        self.known.note(&event.kind);
    }

    /// What comes next was observed on another machine, or at another time.
    pub fn forget_machine(&mut self) {
        self.known = Known::default();
    }

    /// The counts so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The counts so far, to complete.
    pub fn summary_mut(&mut self) -> &mut Summary {
        &mut self.summary
    }
}
