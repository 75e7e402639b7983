//! EPT303 target: a walk ends at the frame that KVM resolved the fault to.
//!
//! What it judges
//!   The host-physical address that the entries lead to, against the frame that KVM was about to map:
//!   in this fault, or in an earlier one since when nothing can have taken the page away. Not for L2,
//!   whose frame is L1's to choose anew at any time.
//!
//! Why it matters
//!   The guest reads and writes memory that is not its own, and nothing else says so.
//!
//! Evidence
//!   The frame of tracepoint kvm_mmu_spte_requested. An earlier one counts only while
//!   mmu_invalidate_seq and the generation of the memslots are the same, and for the same root.
//!
//! What to do
//!   Both addresses and all entries are in the finding. An address that is off in one bit speaks for
//!   bad memory, another frame altogether for somebody who writes to the tables.

use super::Rule;
use super::walks::{evidence, mapped, race, translated};
use crate::model::{Event, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT303", name: "target", source: include_str!("ept303.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (walk, translated) = translated(event, known)?;
    if walk.nested {
        return None;
    }
    let translation = mapped(translated)?;
    let (requested, from) = known.frames().of(walk)?;
    let found = (translation.hpa.0 & !known.encryption_mask()) >> 12;
    if found == requested.pfn {
        return Some(RULE.says(Verdict::Ok, "the walk leads to the frame", vec![]));
    }
    let mut evidence = evidence(walk, translated);
    evidence.push(Evidence::new("frame", format!("{:#x}", requested.pfn), from));
    let gpa = walk.gpa;
    Some(if let Some(race) = race(walk, known) {
        let message = format!("GPA {gpa:#x} leads to another frame, which may be right: {race}");
        RULE.says(Verdict::Undetermined, message, evidence)
    } else {
        let message = format!(
            "GPA {gpa:#x} leads to frame {found:#x}, and KVM resolved it to {:#x}",
            requested.pfn
        );
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Race, Walk};
    use crate::rules::walks::samples::{judge, judge_second};

    fn other_frame(walk: &mut Walk) {
        walk.entries[3] ^= 1 << 20;
    }

    #[test]
    fn another_frame_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        assert_eq!(judge(&RULE, |walk, _| other_frame(walk)), Some(Verdict::Mismatch));
        let raced = judge(&RULE, |walk, _| {
            other_frame(walk);
            walk.races.push(Race::Notifier);
        });
        assert_eq!(raced, Some(Verdict::Undetermined));
    }

    #[test]
    fn an_earlier_fault_tells_until_the_page_may_have_gone() {
        assert_eq!(judge_second(&RULE, |_| {}), Some(Verdict::Ok));
        assert_eq!(judge_second(&RULE, other_frame), Some(Verdict::Mismatch));
        let later = judge_second(&RULE, |walk| {
            other_frame(walk);
            walk.notifier_seq = Some(2);
        });
        assert_eq!(later, None);
    }

    #[test]
    fn mmio_that_the_cpu_would_map_is_mmio() {
        // MAXPHYADDR 52, of which KVM takes bits 51:46 for encryption, and so for reserved.
        let mark = 0x3f << 46 | 1;
        let verdict = judge(&RULE, |walk, facts| {
            facts.vendor = crate::model::Vendor::Svm;
            facts.hardware.maxphyaddr = crate::model::Fact::known(52, "test");
            facts.kvm.shadow_mmio_value = crate::model::Fact::known(mark, "test");
            facts.kvm.shadow_mmio_mask = crate::model::Fact::known(mark, "test");
            walk.entries = vec![0x2027, 0x3027, 0x4027, mark | 0x4006];
        });
        assert_eq!(verdict, None);
    }

    #[test]
    fn of_l2_nothing_is_said() {
        let nested = judge(&RULE, |walk, _| {
            other_frame(walk);
            walk.nested = true;
        });
        assert_eq!(nested, None);
    }

    #[test]
    fn bits_that_encrypt_do_not_address() {
        let encrypted = judge(&RULE, |walk, facts| {
            facts.kvm.encryption_mask = crate::model::Fact::known(1 << 45, "test");
            for entry in &mut walk.entries {
                *entry |= 1 << 45;
            }
        });
        assert_eq!(encrypted, Some(Verdict::Ok));
    }
}
