//! EPT306 reserved: no entry of a walk has an address that the host cannot have.
//!
//! What it judges
//!   The address bits of every present entry of a walk, against MAXPHYADDR of the host. Bits by which
//!   the host encrypts (sme_me_mask) are none of the address, and KVM's entries for MMIO have no
//!   address.
//!
//! Why it matters
//!   The CPU refuses such an entry (EPT301), or the address wraps to memory of somebody else where the
//!   host is itself a guest.
//!
//! Evidence
//!   CPUID leaf 0x80000008 of the host, and the entries as they are when kvm_mmu_page_fault returns,
//!   or as KVM has printed them into a log.
//!
//! What to do
//!   One bit too many speaks for bad memory. If it is the same bit in every entry, compare the masks
//!   that KVM makes entries of (shadow_me_value) with what the firmware has set up (TME, SME).

use super::Rule;
use super::walks::{evidence, is_printed};
use crate::model::{Event, EventKind, Evidence, Judgement, Race, Verdict};
use crate::oracle::{End, Known};

/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// R, W and X of EPT; P of NPT is among them.
const RIGHTS: u64 = 7;

pub(super) const RULE: Rule =
    Rule { id: "EPT306", name: "reserved", source: include_str!("ept306.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Walk(walk) = &event.kind else { return None };
    // Of a walk that was captured EPT301 says what is missing.
    let missing =
        |what: String| is_printed(walk).then(|| RULE.says(Verdict::Undetermined, what, vec![]));
    let translated = match known.translated()? {
        Ok(translated) => translated,
        Err(why) => return missing(why.clone()),
    };
    let width = known.host_maxphyaddr();
    let Some(bits) = width.value() else {
        return missing(format!("MAXPHYADDR of the host: {}", width.origin()));
    };
    let above = u64::MAX.checked_shl(bits.into()).unwrap_or(0) & ADDRESS;
    let mapping = match translated.end {
        End::Mmio => translated.trail.len().saturating_sub(1),
        _ => translated.trail.len(),
    };
    let present = translated.trail[..mapping].iter().filter(|step| step.entry & RIGHTS != 0);
    let mut wrong = present.map(|step| (step, step.entry & above & !known.encryption_mask()));
    let Some((step, set)) = wrong.find(|(_, set)| *set != 0) else {
        return Some(RULE.says(Verdict::Ok, "the host can have every address", vec![]));
    };
    let mut evidence = evidence(walk, translated);
    evidence.push(Evidence::new("MAXPHYADDR of the host", bits, width.origin()));
    if walk.races.contains(&Race::Entries) {
        return Some(RULE.says(Verdict::Undetermined, Race::Entries.what(), evidence));
    }
    let message = format!(
        "GPA {:#x}: entry {:#x} of level {} has address bits {set:#x}, and the host has {bits} bits",
        walk.gpa, step.entry, step.level
    );
    Some(RULE.says(Verdict::Mismatch, message, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fact;
    use crate::rules::walks::samples::judge;

    #[test]
    fn a_bit_too_many_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] |= 1 << 51), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] |= 1 << 46), Some(Verdict::Mismatch));
        let raced = judge(&RULE, |walk, _| {
            walk.entries[3] |= 1 << 51;
            walk.races.push(Race::Entries);
        });
        assert_eq!(raced, Some(Verdict::Undetermined));
    }

    #[test]
    fn what_is_no_address_is_right() {
        assert_eq!(
            judge(&RULE, |walk, _| walk.entries[3] = 0x000f_ee00_0000_0006),
            Some(Verdict::Ok)
        );
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] |= 1 << 52), Some(Verdict::Ok));
        let encrypted = judge(&RULE, |walk, facts| {
            facts.kvm.encryption_mask = Fact::known(1 << 47, "test");
            walk.entries[3] |= 1 << 47;
        });
        assert_eq!(encrypted, Some(Verdict::Ok));
    }
}
