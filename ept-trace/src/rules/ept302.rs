//! EPT302 refault: a fault that KVM has resolved does not come back.
//!
//! What it judges
//!   Faults that kvm_tdp_page_fault answered with RET_PF_FIXED or RET_PF_SPURIOUS: there is a
//!   translation for the access now. The entries, walked as the CPU walks them, must allow it.
//!
//! Why it matters
//!   Else the vCPU takes the same fault again, and KVM resolves it again, and the guest hangs at full
//!   load.
//!
//! Evidence
//!   The access by the error code, and the entries as they are when kvm_mmu_page_fault returns. What
//!   may lawfully undo a fault that was resolved makes it undetermined: the host taking pages away,
//!   memslots changed, dirty logging (W), access tracking, the split of huge pages that are executed
//!   (nx_huge_pages), write-protection of pages that KVM shadows, reclaim of pages by the MMU before
//!   the TDP MMU. Work on the memslots shows by its lock, before and after.
//!
//! What to do
//!   The entry that denies the access, and which right, are in the finding. If the entry is right and
//!   the walk is not as deep as KVM believes, see EPT202 and EPT305.

use super::Rule;
use super::walks::{evidence, race, resolved, translated};
use crate::ept::Step;
use crate::model::{Event, Evidence, Judgement, Verdict, Walk};
use crate::oracle::{Absent, End, Known};

/// W, in EPT and NPT.
const WRITE: u64 = 1 << 1;
/// 5.4 to 5.12: the bit of an entry that KVM may give W back to.
const OLD_MMU_WRITABLE: u64 = 1 << 11;

pub(super) const RULE: Rule =
    Rule { id: "EPT302", name: "refault", source: include_str!("ept302.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (walk, translated) = translated(event, known)?;
    let answer = resolved(walk, known)?;
    let gpa = walk.gpa;
    let what = match translated.end {
        // What the CPU refuses is EPT301's; what was not read to the end is told there as well.
        End::Refused(_) | End::Cut => return None,
        End::Mapped(_) => {
            return Some(RULE.says(Verdict::Ok, "resolved, and the access goes through", vec![]));
        }
        other => other,
    };
    let mut evidence = evidence(walk, translated);
    evidence.push(Evidence::new("answer", answer, "kvm_tdp_page_fault"));
    let excuse = race(walk, known).or_else(|| excuse(walk, what, translated.last(), known));
    Some(if let Some(why) = excuse {
        let message = format!("GPA {gpa:#x}: {answer}, and {what}, which may be right: {why}");
        RULE.says(Verdict::Undetermined, message, evidence)
    } else {
        let message = format!("GPA {gpa:#x}: {answer}, and the access faults again: {what}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

/// What may have undone it lawfully.
fn excuse(walk: &Walk, end: End, last: Option<&Step>, known: &Known) -> Option<String> {
    let kvm = &known.facts()?.kvm;
    let splits = match kvm.nx_huge_pages.value() {
        Some(false) => None,
        _ => Some(format!("nx_huge_pages: {}", kvm.nx_huge_pages)),
    };
    match end {
        End::Absent(Absent::AccessTracked) => Some("KVM looks whether it is used".to_owned()),
        End::Absent(Absent::Frozen) => Some("KVM is changing it".to_owned()),
        End::Absent(Absent::Empty) => splits.or_else(|| match kvm.tdp_mmu.value() {
            Some(true) => None,
            _ => Some(format!("KVM may reclaim pages of its tables; tdp_mmu: {}", kvm.tdp_mmu)),
        }),
        End::Denied => {
            let last = last?;
            // That W is missing is no excuse for an access that does not need it.
            if last.entry & WRITE != 0 || walk.error_code & WRITE == 0 {
                return splits;
            }
            let is_leaf = last.level == 1 || last.entry & 1 << 7 != 0;
            let is_old = kvm.shadow_mmio_mask.value().is_none();
            let old = is_old.then_some(OLD_MMU_WRITABLE);
            let Some(writable) = kvm.shadow_mmu_writable_mask.value().or(old) else {
                return Some(format!("shadow_mmu_writable_mask: {}", kvm.shadow_mmu_writable_mask));
            };
            match walk.is_dirty_logged() {
                _ if !is_leaf => None,
                _ if last.entry & writable == 0 => {
                    Some("KVM keeps writes from pages that it shadows".to_owned())
                }
                Some(true) => Some("writes to the memslot are logged".to_owned()),
                None => Some("whether writes to the memslot are logged is not known".to_owned()),
                Some(false) => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, Race};
    use crate::rules::walks::samples::judge;

    #[test]
    fn a_right_that_is_missing_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] &= !WRITE), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[1] &= !WRITE), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] = 1 << 63), Some(Verdict::Mismatch));
        let fetch = judge(&RULE, |walk, _| {
            walk.error_code = 1 << 4;
            walk.entries[3] &= !4;
        });
        assert_eq!(fetch, Some(Verdict::Mismatch));
        let spurious = judge(&RULE, |walk, _| {
            walk.answer = Some(6);
            walk.entries[3] &= !WRITE;
        });
        assert_eq!(spurious, Some(Verdict::Mismatch));
    }

    #[test]
    fn what_may_be_undone_lawfully_is_no_mismatch() {
        let cases: [fn(&mut Walk, &mut crate::model::KernelFacts); 8] = [
            |walk, facts| {
                facts.behaviour.invalid_bit = Some(13);
                walk.roles[0] |= 1 << 13;
            },
            |walk, _| walk.races.push(Race::Notifier),
            |walk, _| walk.unseen_races.push(Race::Memslots),
            |walk, _| walk.slot_flags = Some(1),
            |walk, _| walk.slot_flags = None,
            |walk, _| walk.entries[3] &= !(1 << 58),
            |walk, facts| {
                walk.entries[3] = 0;
                facts.kvm.nx_huge_pages = Fact::known(true, "test");
            },
            |walk, facts| {
                walk.entries[3] = 0;
                facts.kvm.tdp_mmu = Fact::known(false, "test");
            },
        ];
        for (number, case) in cases.into_iter().enumerate() {
            let verdict = judge(&RULE, |walk, facts| {
                walk.entries[3] &= !WRITE;
                case(walk, facts);
            });
            assert_eq!(verdict, Some(Verdict::Undetermined), "case {number}");
        }
        for absent in [0x5a0, 0x1234_5800] {
            let verdict = judge(&RULE, |walk, _| walk.entries[3] = absent);
            assert_eq!(verdict, Some(Verdict::Undetermined), "{absent:#x}");
        }
    }

    #[test]
    fn what_was_not_resolved_is_not_judged() {
        for answer in [None, Some(1), Some(2)] {
            let verdict = judge(&RULE, |walk, _| {
                walk.answer = answer;
                walk.entries[3] = 0;
            });
            assert_eq!(verdict, None, "{answer:?}");
        }
    }
}
