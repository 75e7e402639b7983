//! EPT401 spte-history: an entry is changed from what the changes before it left there.
//!
//! What it judges
//!   The old value of each change that the TDP MMU tells, against the new values told before for the
//!   same address space, level and guest frame: where it leads, and whether that is a table. A, D and
//!   the rights are left out, for hardware and KVM change them without telling.
//!
//! Why it matters
//!   An entry that is not what KVM last made it was written by somebody else: another KVM path that
//!   holds no lock, a device, bad memory. What it maps belongs to somebody.
//!
//! Evidence
//!   Tracepoint kvm_tdp_mmu_spte_changed, and handle_changed_spte for the VM (`--history`). Only VMs
//!   that were seen to begin are judged, and only until a record is lost. Changes told in another
//!   order than they were made get a second to make sense; where several roots have an entry for the
//!   frame, any of them counts; tables made by splitting a large page are left out.
//!
//! What to do
//!   The finding has both values and what was left there. One bit of difference speaks for memory;
//!   an address of another VM for a bug in KVM. Record the run, and report it with the kernel's
//!   version.

use super::Rule;
use super::history;
use crate::model::{Event, Judgement};
use crate::oracle::{Fault, Finding, Known};

pub(super) const RULE: Rule =
    Rule { id: "EPT401", name: "spte-history", source: include_str!("ept401.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let is_of_rule = |fault| matches!(fault, Fault::Missing | Fault::Occupied);
    history::judge(&RULE, event, known, (is_of_rule, words))
}

fn words(found: &Finding) -> String {
    let old = found.change.old.unwrap_or(0);
    match found.fault {
        Fault::Occupied => format!("an entry is told to be empty ({old:#x}), and was not emptied"),
        _ => format!("{old:#x} is replaced, which no change before has left there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventKind, Verdict};
    use crate::rules::history::samples::judge;

    #[test]
    fn a_change_that_was_not_told_is_found() {
        assert_eq!(judge(&RULE, |_| {}), Some(Verdict::Ok));
        for (missing, what) in [(4, "the setting"), (6, "the emptying"), (7, "the second setting")]
        {
            let found = judge(&RULE, |kinds| {
                kinds.remove(missing);
            });
            assert_eq!(found, Some(Verdict::Mismatch), "{what}");
        }
    }

    #[test]
    fn another_value_is_found_and_marks_of_use_are_none() {
        let with = |bit: u64| {
            judge(&RULE, |kinds| {
                if let EventKind::SpteChange(change) = &mut kinds[9] {
                    change.old = change.old.map(|old| old ^ 1 << bit);
                }
            })
        };
        assert_eq!(with(13), Some(Verdict::Mismatch));
        for bit in [1, 5, 6, 9] {
            assert_eq!(with(bit), Some(Verdict::Ok), "bit {bit}");
        }
    }

    #[test]
    fn what_was_lost_is_not_held_against_anybody() {
        let lost = judge(&RULE, |kinds| {
            kinds[4] = EventKind::Loss { hook: String::new(), records: 1 };
        });
        assert_eq!(lost, Some(Verdict::Ok));
    }
}
