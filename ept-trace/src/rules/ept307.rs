//! EPT307 memory-type: the memory type of a leaf is one that KVM uses.
//!
//! What it judges
//!   Bits 5:3 of an EPT leaf: 6 (write-back) for memory, 0 (uncacheable) for devices. With devices
//!   whose DMA the caches do not see, kernels before 6.11 use the types of the guest's MTRRs as well.
//!   Of an NPT leaf: PWT, PCD and PAT, which KVM leaves clear.
//!
//! Why it matters
//!   Memory with a wrong type is slow, or its contents differ between the CPU and devices.
//!
//! Evidence
//!   The leaf as it is when kvm_mmu_page_fault returns, kvm->arch.noncoherent_dma_count, and whether
//!   kvm has kvm_mtrr_get_guest_memory_type. Types 2, 3 and 7 are refused by the CPU (EPT301).
//!
//! What to do
//!   Compare the leaf with its neighbours (`ept-trace walk --live --dump`). Look at vmx_get_mt_mask
//!   and who has changed shadow_memtype_mask.

use super::Rule;
use super::walks::{evidence, mapped, translated};
use crate::ept::{LeafMemory, MemoryType};
use crate::model::{Event, Evidence, Judgement, Verdict};
use crate::oracle::Known;

/// PWT and PCD of NPT.
const PWT_PCD: u64 = 3 << 3;
/// PAT of a leaf of level 1.
const PAT: u64 = 1 << 7;
/// PAT of a leaf above that.
const PAT_LARGE: u64 = 1 << 12;

pub(super) const RULE: Rule =
    Rule { id: "EPT307", name: "memory-type", source: include_str!("ept307.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (walk, translated) = translated(event, known)?;
    let translation = mapped(translated)?;
    let found = match translation.memory {
        Some(LeafMemory { memory_type: MemoryType::Uc | MemoryType::Wb, .. }) => None,
        // With a device whose DMA the caches do not see, those of the guest's MTRRs.
        Some(_)
            if walk.noncoherent_dma != Some(0) && known.facts()?.behaviour.has_guest_mtrr_types =>
        {
            None
        }
        Some(memory) => Some(format!("memory type {}", memory.memory_type.name())),
        None => {
            let pat = if translation.level == 1 { PAT } else { PAT_LARGE };
            let set = translated.last()?.entry & (PWT_PCD | pat);
            (set != 0).then(|| format!("bits {set:#x} of PWT, PCD and PAT"))
        }
    };
    let Some(found) = found else {
        return Some(RULE.says(Verdict::Ok, "KVM uses this memory type", vec![]));
    };
    let mut evidence = evidence(walk, translated);
    if let Some(devices) = walk.noncoherent_dma {
        let what = "devices with non-coherent DMA";
        evidence.push(Evidence::new(what, devices, "kvm->arch.noncoherent_dma_count"));
    }
    let message = format!("GPA {:#x} has {found}, which KVM does not use here", walk.gpa);
    Some(RULE.says(Verdict::Mismatch, message, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KernelFacts, Vendor, Walk};
    use crate::rules::walks::samples::judge;

    fn with_type(memory_type: u64) -> impl Fn(&mut Walk) {
        move |walk| walk.entries[3] = walk.entries[3] & !(7 << 3) | memory_type << 3
    }

    #[test]
    fn a_type_that_kvm_does_not_use_is_found() {
        for (memory_type, verdict) in [
            (0, Verdict::Ok),
            (6, Verdict::Ok),
            (1, Verdict::Mismatch),
            (4, Verdict::Mismatch),
            (5, Verdict::Mismatch),
        ] {
            let found = judge(&RULE, |walk, _| with_type(memory_type)(walk));
            assert_eq!(found, Some(verdict), "{memory_type}");
        }
        // Without IPAT.
        assert_eq!(judge(&RULE, |walk, _| walk.entries[3] &= !(1 << 6)), Some(Verdict::Ok));
    }

    #[test]
    fn the_guest_s_types_are_right_with_a_device_on_an_old_kernel() {
        let verdict = |devices, has_guest_mtrr_types| {
            judge(&RULE, |walk, facts| {
                with_type(4)(walk);
                walk.noncoherent_dma = devices;
                facts.behaviour.has_guest_mtrr_types = has_guest_mtrr_types;
            })
        };
        assert_eq!(verdict(Some(1), true), Some(Verdict::Ok));
        assert_eq!(verdict(None, true), Some(Verdict::Ok), "not known whether there is one");
        assert_eq!(verdict(Some(0), true), Some(Verdict::Mismatch));
        assert_eq!(verdict(Some(1), false), Some(Verdict::Mismatch));
    }

    #[test]
    fn npt_has_none() {
        let npt = |walk: &mut Walk, facts: &mut KernelFacts| {
            facts.vendor = Vendor::Svm;
            walk.entries =
                [0x2027, 0x3027, 0x4027, 0x1234_5067].map(|entry| entry | 1 << 11).into();
        };
        assert_eq!(judge(&RULE, npt), Some(Verdict::Ok));
        for bits in [1 << 3, 1 << 4, 1 << 7] {
            let found = judge(&RULE, |walk, facts| {
                npt(walk, facts);
                walk.entries[3] |= bits;
            });
            assert_eq!(found, Some(Verdict::Mismatch), "{bits:#x}");
        }
    }
}
