//! The driver: takes observations in order, lets the rules judge, and keeps count.

mod summary;

use crate::model::{Event, EventKind, Judgement, Mode, Verdict};
use crate::oracle::{End, Known, replay};
use crate::rules::RULES;

pub use summary::{HookCounts, LevelShape, Summary};

/// An observation with what the rules say of it.
#[derive(Debug)]
pub struct Judged {
    /// The observation.
    pub event: Event,
    /// What each rule that it concerns says.
    pub judgements: Vec<Judgement>,
    /// For a decision: which MMU was set up, as far as that can be told.
    pub mode: Option<Mode>,
    /// For a decision: the root level that it should have.
    pub expected_level: Option<u8>,
    /// For a walk: where the hardware gets by it, or why that cannot be told.
    pub walk_end: Option<Result<End, String>>,
}

impl Judged {
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
}

impl Analysis {
    /// Judges the next observation.
    pub fn judge(&mut self, event: Event) -> Judged {
        self.known.learn(&event.kind);
        self.known.follow(&event);
        let judgements = RULES.iter().filter_map(|rule| (rule.judge)(&event, &self.known));
        let mut judged = Judged {
            judgements: judgements.collect(),
            mode: None,
            expected_level: None,
            walk_end: self
                .known
                .translated()
                .map(|walk| walk.as_ref().map(|walk| walk.end).map_err(Clone::clone)),
            event,
        };
        if let EventKind::Decision(decision) = &judged.event.kind
            && let Ok(replay) = replay(&self.known.replay_inputs(decision))
        {
            judged.mode = Some(replay.mode);
            // An expectation that no rule vouches for is none.
            judged.expected_level = replay.level.filter(|_| judged.is_judged());
        }
        self.known.note(&judged.event.kind);
        self.summary.count(&judged);
        judged
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
