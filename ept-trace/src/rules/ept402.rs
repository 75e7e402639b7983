//! EPT402 unlinked-table: an entry is set in a table that was linked.
//!
//! What it judges
//!   Each entry that the TDP MMU sets, against the entry above it: in a VM that was seen from its
//!   beginning, the table must have been linked there.
//!
//! Why it matters
//!   The hardware never gets to a table that no entry leads to: the guest faults for ever. Or the
//!   entry is in a table of somebody else.
//!
//! Evidence
//!   As for EPT401.
//!
//! What to do
//!   See which entries are told for the frames around it in the recording. A table that was linked
//!   before the entry in it, and told a second later, is not reported: that is a race of the telling.

use super::Rule;
use super::history;
use crate::model::{Event, Judgement};
use crate::oracle::{Fault, Finding, Known};

pub(super) const RULE: Rule =
    Rule { id: "EPT402", name: "unlinked-table", source: include_str!("ept402.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let is_of_rule = |fault| fault == Fault::NeverLinked;
    history::judge(&RULE, event, known, (is_of_rule, words))
}

fn words(found: &Finding) -> String {
    let above = found.change.level + 1;
    format!("an entry is set in a table that no entry of level {above} was ever set to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventKind, Verdict};
    use crate::rules::history::samples::judge;

    #[test]
    fn a_table_that_was_not_linked_is_found() {
        assert_eq!(judge(&RULE, |_| {}), Some(Verdict::Ok));
        let unlinked = judge(&RULE, |kinds| {
            kinds.remove(3);
        });
        assert_eq!(unlinked, Some(Verdict::Mismatch));
        let swapped = judge(&RULE, |kinds| kinds.swap(3, 4));
        assert_eq!(swapped, Some(Verdict::Ok), "told late, and right");
    }

    #[test]
    fn of_a_vm_that_was_there_before_nothing_is_said() {
        let partial = judge(&RULE, |kinds| {
            kinds.remove(3);
            for kind in kinds {
                if let EventKind::SpteChange(change) = kind {
                    change.from_start = false;
                }
            }
        });
        assert_eq!(partial, None);
    }
}
