//! The counts of a run, and what they say of it as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Judged;
use crate::model::{EventKind, Verdict};
pub use crate::oracle::LevelShape;

/// As many reasons are told apart.
const MOST_REASONS: usize = 16;

/// What became of a hook's calls: `fired = delivered + filtered + dropped + missed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookCounts {
    /// The hook.
    pub hook: String,
    /// Calls, as the kernel itself counts them where it does (kprobes).
    pub fired: u64,
    /// Calls whose record reached userspace, or whose state reached the hook's other half.
    pub delivered: u64,
    /// Calls left out on purpose.
    pub filtered: u64,
    /// Calls whose record was lost.
    pub dropped: u64,
    /// Calls that the program never saw.
    pub missed: u64,
}

impl HookCounts {
    /// Whether every call is accounted for.
    pub fn adds_up(&self) -> bool {
        self.fired == self.delivered + self.filtered + self.dropped + self.missed
    }

    /// Calls that should have been seen and were not.
    pub fn lost(&self) -> u64 {
        self.dropped.saturating_add(self.missed)
    }
}

/// The counts of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Root-level decisions observed.
    pub decisions: u64,
    /// Walks observed.
    pub walks: u64,
    /// Changes of entries observed.
    #[serde(default)]
    pub spte_changes: u64,
    /// Observations that some rule called a mismatch, known ones not counted.
    pub mismatches: u64,
    /// Observations with mismatches that are all known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub known: u64,
    /// Observations that could not be judged in full.
    pub undetermined: u64,
    /// Observations that are legal and will hurt someone.
    pub advisories: u64,
    /// Walks that no rule was asked about, by the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_judged: BTreeMap<String, u64>,
    /// Records lost.
    pub lost: u64,
    /// Times in which nothing could be observed.
    pub gaps: u64,
    /// By hook.
    pub hooks: Vec<HookCounts>,
    /// What is said to be known, and was not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
    /// By VM and level, where changes of entries were observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<LevelShape>,
}

impl Summary {
    pub(super) fn count(&mut self, judged: &Judged) {
        match &judged.event.kind {
            EventKind::Decision(_) => self.decisions += 1,
            EventKind::Walk(_) => self.walks += 1,
            EventKind::SpteChange(_) => self.spte_changes += 1,
            EventKind::Loss { records, .. } => self.lost = self.lost.saturating_add(*records),
            EventKind::Gap { .. } => self.gaps += 1,
            _ => {}
        }
        if let Some(why) = &judged.not_judged {
            // A file may have its own words for a reason, and ever new ones.
            let is_kept = self.not_judged.len() < MOST_REASONS || self.not_judged.contains_key(why);
            let why = if is_kept { why } else { "other reasons" };
            match self.not_judged.get_mut(why) {
                Some(count) => *count += 1,
                None => drop(self.not_judged.insert(why.to_owned(), 1)),
            }
        }
        match judged.verdict() {
            Verdict::Ok => {}
            Verdict::Advisory => self.advisories += 1,
            Verdict::Undetermined => self.undetermined += 1,
            Verdict::Mismatch if judged.is_mismatch() => self.mismatches += 1,
            Verdict::Mismatch => self.known += 1,
        }
    }

    /// Whether something may have been overlooked.
    pub fn is_incomplete(&self) -> bool {
        self.lost > 0 || self.gaps > 0
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
