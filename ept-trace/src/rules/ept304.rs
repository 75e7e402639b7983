//! EPT304 leaf-level: a leaf is of the level that KVM meant to map.
//!
//! What it judges
//!   The level of the leaf (1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB) of a fault that was resolved, against
//!   the level that KVM was about to map, in this fault or in an earlier one since when nothing can
//!   have changed it.
//!
//! Why it matters
//!   A leaf that is too large gives the guest memory that is not its own; one that is too small takes
//!   memory of the guest for a table.
//!
//! Evidence
//!   The level of tracepoint kvm_mmu_spte_requested. Pages are split and joined lawfully at any time
//!   (around pages that KVM shadows, for nx_huge_pages, for dirty logging), so a leaf of another level
//!   that leads to the right frame is undetermined.
//!
//! What to do
//!   All entries are in the finding. Look at bit 7 of the entry where the walk ends.

use super::Rule;
use super::walks::{evidence, mapped, race, resolved, translated};
use crate::model::{Event, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT304", name: "leaf-level", source: include_str!("ept304.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (walk, translated) = translated(event, known)?;
    resolved(walk, known)?;
    let translation = mapped(translated)?;
    let found = translation.level;
    let (requested, from) = known.frames().of(walk)?;
    let meant = requested.level;
    if found == meant {
        return Some(RULE.says(Verdict::Ok, "mapped at the level that was meant", vec![]));
    }
    let mut evidence = evidence(walk, translated);
    evidence.push(Evidence::new("level to be mapped", meant, from));
    let gpa = walk.gpa;
    // What leads to the right frame all the same may have been split or joined since: around pages
    // that KVM shadows, for nx_huge_pages, for dirty logging, or back again.
    let frame = (translation.hpa.0 & !known.encryption_mask()) >> 12;
    let excuse = || (frame == requested.pfn).then(|| "it leads to the right frame".to_owned());
    Some(if let Some(why) = race(walk, known).or_else(excuse) {
        let message = format!(
            "GPA {gpa:#x} is mapped at level {found}, and KVM meant {meant}, which may be right: {why}"
        );
        RULE.says(Verdict::Undetermined, message, evidence)
    } else {
        let message = format!(
            "GPA {gpa:#x} is mapped at level {found}, and KVM meant level {meant}, and leads to frame \
             {frame:#x}, not {:#x}",
            requested.pfn
        );
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Walk;
    use crate::rules::walks::samples::{LEAF, judge, judge_second};

    /// Level 2 is a leaf.
    fn large(walk: &mut Walk) {
        walk.entries.truncate(2);
        walk.entries.push(0x1220_0000 | LEAF | 1 << 7);
    }

    #[test]
    fn another_level_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        assert_eq!(judge(&RULE, |walk, _| large(walk)), Some(Verdict::Mismatch));
        assert_eq!(judge_second(&RULE, large), Some(Verdict::Mismatch));
        assert_eq!(judge_second(&RULE, |_| {}), Some(Verdict::Ok));
    }

    #[test]
    fn what_leads_to_the_right_frame_may_have_been_split_or_joined() {
        let split = judge(&RULE, |walk, _| {
            if let Some(requested) = &mut walk.requested {
                requested.level = 2;
            }
        });
        assert_eq!(split, Some(Verdict::Undetermined));
        let joined = judge(&RULE, |walk, _| {
            large(walk);
            if let Some(requested) = &mut walk.requested {
                requested.pfn = 0x12204;
            }
        });
        assert_eq!(joined, Some(Verdict::Undetermined));
    }
}
