//! EPT301 misconfiguration: no entry of a walk is one that the CPU refuses.
//!
//! What it judges
//!   The entries that a fault's address is translated by, as they are right after KVM has handled
//!   the fault, walked as the CPU walks them; and those that KVM itself has printed into a log. KVM's
//!   own entries for MMIO are refused on purpose, and are told apart by the masks of the running KVM.
//!
//! Why it matters
//!   On an EPT misconfiguration, or an #NPF with reserved bits, the vCPU leaves for KVM, which does
//!   not expect it: the VM ends with an internal error, or the fault comes back for ever.
//!
//! Evidence
//!   SDM Vol. 3C §31.3.3.1: W without R, X without R where execute-only is not offered, a reserved
//!   bit, a memory type 2, 3 or 7. For NPT: a reserved bit. The entries are read when
//!   kvm_mmu_page_fault returns, and once more, so that a table that was taken out meanwhile is no
//!   misconfiguration. Where the CPU is not wholly known, what every CPU refuses still is.
//!
//! What to do
//!   The finding has the entry, its level and each reason. `ept-trace walk` shows it bit by bit. Look
//!   for who writes to page tables, and at the masks that KVM makes entries of (shadow_*_mask).

use super::Rule;
use super::walks::{evidence, is_printed};
use crate::model::{Event, EventKind, Judgement, Race, Verdict};
use crate::oracle::{End, Known};

pub(super) const RULE: Rule =
    Rule { id: "EPT301", name: "misconfiguration", source: include_str!("ept301.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Walk(walk) = &event.kind else { return None };
    let translated = match known.translated()? {
        Ok(translated) => translated,
        Err(missing) => return Some(RULE.says(Verdict::Undetermined, missing.clone(), vec![])),
    };
    let evidence = || evidence(walk, translated);
    let gpa = walk.gpa;
    Some(match (translated.end, translated.last()) {
        (End::Refused(_), _) if walk.races.contains(&Race::Entries) => {
            RULE.says(Verdict::Undetermined, Race::Entries.what(), evidence())
        }
        (End::Refused(reasons), Some(last)) => {
            let why =
                reasons.map_or_else(|| "reserved bits are set".to_owned(), |all| all.to_string());
            let message = format!(
                "GPA {gpa:#x}: the CPU refuses entry {:#x} of level {}: {why}",
                last.entry, last.level
            );
            RULE.says(Verdict::Mismatch, message, evidence())
        }
        (End::Cut, last) if is_printed(walk) => {
            let level = last.map_or(0, |step| step.level).saturating_sub(1);
            let missing = format!(
                "GPA {gpa:#x}: the entry of level {level} is not printed, as KVM does not take it for \
                 present"
            );
            RULE.says(Verdict::Undetermined, missing, evidence())
        }
        (End::Cut, _) => {
            let missing = format!("GPA {gpa:#x}: an entry could not be read");
            RULE.says(Verdict::Undetermined, missing, evidence())
        }
        (End::Absent(_), Some(last))
            if is_printed(walk) && translated.trail.len() < walk.entries.len() =>
        {
            let message = format!(
                "GPA {gpa:#x}: the CPU does not get beyond entry {:#x} of level {}, and there are \
                 entries below it, so they are not of one walk",
                last.entry, last.level
            );
            RULE.says(Verdict::Undetermined, message, evidence())
        }
        _ => RULE.says(Verdict::Ok, "the CPU accepts every entry", vec![]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::walks::samples::judge;

    #[test]
    fn each_reason_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        // R is taken from a leaf, and from a table.
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] &= !1), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[1] &= !1), Some(Verdict::Mismatch));
        // Memory types 2 and 7; a reserved bit of a table.
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] ^= 4 << 3), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] |= 7 << 3), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[2] |= 1 << 4), Some(Verdict::Mismatch));
    }

    #[test]
    fn what_is_refused_on_purpose_is_right() {
        let mmio = |walk: &mut crate::model::Walk| walk.entries[3] = 0x0fee_0000_0000_0006;
        assert_eq!(judge(&RULE, |walk, _| mmio(walk)), Some(Verdict::Ok));
        // Of a VM that has no such entries it is wrong; and where KVM's masks are not known, nothing.
        let without = judge(&RULE, |walk, _| {
            mmio(walk);
            walk.mmio_value = Some(0);
        });
        assert_eq!(without, Some(Verdict::Mismatch));
        let unknown = judge(&RULE, |walk, facts| {
            mmio(walk);
            facts.kvm = crate::model::KvmState::default();
        });
        assert_eq!(unknown, Some(Verdict::Undetermined));
    }

    #[test]
    fn a_table_that_was_taken_out_meanwhile_is_none() {
        let raced = judge(&RULE, |walk, _| {
            walk.entries[3] &= !1;
            walk.races.push(Race::Entries);
        });
        assert_eq!(raced, Some(Verdict::Undetermined));
    }

    #[test]
    fn what_encrypts_is_not_reserved() {
        let verdict = |mask: u64| {
            judge(&RULE, |walk, facts| {
                facts.vendor = crate::model::Vendor::Svm;
                facts.hardware.maxphyaddr = crate::model::Fact::known(48, "test");
                facts.kvm.encryption_mask = crate::model::Fact::known(mask, "test");
                let npt = [0x2027, 0x3027, 0x4027, 0x1234_5867];
                walk.entries = npt.map(|entry| entry | 1 << 51).into();
            })
        };
        assert_eq!(verdict(1 << 51), Some(Verdict::Ok));
        assert_eq!(verdict(0), Some(Verdict::Mismatch), "without encryption it is reserved");
    }

    #[test]
    fn npt_of_other_levels_than_the_cpu_walks_is_not_called_right() {
        let verdict = |la57: bool| {
            judge(&RULE, |walk, facts| {
                facts.vendor = crate::model::Vendor::Svm;
                facts.hardware.host_la57 = crate::model::Fact::known(la57, "test");
                walk.entries = [0x2027, 0x3027, 0x4027, 0x1234_5867].into();
            })
        };
        assert_eq!(verdict(false), Some(Verdict::Ok));
        assert_eq!(verdict(true), Some(Verdict::Undetermined));
    }

    #[test]
    fn what_leads_nowhere_is_accepted() {
        for absent in [0, 1 << 63, 0x5a0, 1 << 63 | 0x1a0] {
            assert_eq!(judge(&RULE, |walk, _| walk.entries[3] = absent), Some(Verdict::Ok));
        }
    }
}
