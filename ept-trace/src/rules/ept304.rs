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
//!   The level of tracepoint kvm_mmu_spte_requested. A smaller leaf is lawful where huge pages are
//!   split when they are executed (nx_huge_pages), or because writes to the memslot are logged.
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
    let found = mapped(translated)?.level;
    let (requested, from) = known.frames().of(walk)?;
    let meant = requested.level;
    if found == meant {
        return Some(RULE.says(Verdict::Ok, "mapped at the level that was meant", vec![]));
    }
    let mut evidence = evidence(walk, translated);
    evidence.push(Evidence::new("level to be mapped", meant, from));
    let gpa = walk.gpa;
    let kvm = &known.facts()?.kvm;
    let split = || match (kvm.nx_huge_pages.value(), walk.is_dirty_logged()) {
        _ if found > meant => None,
        (Some(false), Some(false)) => None,
        (Some(false), _) => Some("writes to the memslot are logged, or may be".to_owned()),
        (_, _) => Some(format!("nx_huge_pages: {}", kvm.nx_huge_pages)),
    };
    Some(if let Some(why) = race(walk, known).or_else(split) {
        let message = format!(
            "GPA {gpa:#x} is mapped at level {found}, and KVM meant {meant}, which may be right: {why}"
        );
        RULE.says(Verdict::Undetermined, message, evidence)
    } else {
        let message =
            format!("GPA {gpa:#x} is mapped at level {found}, and KVM meant level {meant}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, Walk};
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
    fn a_page_may_be_split_and_not_joined() {
        let meant_2 = |walk: &mut Walk| {
            if let Some(requested) = &mut walk.requested {
                requested.level = 2;
            }
        };
        assert_eq!(judge(&RULE, |walk, _| meant_2(walk)), Some(Verdict::Mismatch));
        let logged = judge(&RULE, |walk, _| {
            meant_2(walk);
            walk.slot_flags = Some(1);
        });
        assert_eq!(logged, Some(Verdict::Undetermined));
        let executed = judge(&RULE, |walk, facts| {
            meant_2(walk);
            facts.kvm.nx_huge_pages = Fact::known(true, "test");
        });
        assert_eq!(executed, Some(Verdict::Undetermined));
        let joined = judge(&RULE, |walk, facts| {
            large(walk);
            facts.kvm.nx_huge_pages = Fact::known(true, "test");
            walk.slot_flags = Some(1);
        });
        assert_eq!(joined, Some(Verdict::Mismatch));
    }
}
