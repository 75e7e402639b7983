//! EPT502 nested-capability: L1 is shown no EPT capability that the hardware lacks.
//!
//! What it judges
//!   The low half of MSR 0x48c as KVM offers it to any L1 (KVM_GET_MSRS of /dev/kvm), when the
//!   machine is read; and as one L1 is shown it (nested.msrs.ept_caps), when that L1 runs an L2.
//!
//! Why it matters
//!   L1 uses what it is shown. KVM shadows L1's tables with its own, so a walk of 5 levels, a
//!   memory type or accessed and dirty flags that the hardware does not have cannot be had for L2
//!   either: VM entry fails, or L2 runs on other terms than L1 was promised.
//!
//! Evidence
//!   MSR 0x48c of the hardware, else KVM's own copy. KVM does some things itself, and may show them
//!   on any hardware: pages of 2 MiB and 1 GiB (bits 16 and 17), INVEPT and its types (bits 20, 25
//!   and 26). Everything else must be the hardware's: bit 7, walks of 5 levels, above all.
//!
//! What to do
//!   Look at nested_vmx_setup_ctls_msrs, which masks the capability; for one L1 alone, at what
//!   userspace has set with KVM_SET_MSRS.

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Nested, Vendor, Verdict};
use crate::oracle::Known;

/// What KVM emulates: 2 MiB, 1 GiB, INVEPT, its single-context and its all-context type.
/// `nested_vmx_setup_ctls_msrs` (in `nested_vmx_setup_secondary_ctls` of newer kernels).
const EMULATED: u64 = 1 << 16 | 1 << 17 | 1 << 20 | 1 << 25 | 1 << 26;

pub(super) const RULE: Rule =
    Rule { id: "EPT502", name: "nested-capability", source: include_str!("ept502.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (shown, origin) = match &event.kind {
        EventKind::Facts(facts) if facts.vendor == Vendor::Vmx => {
            let offered = &facts.kvm.nested_ept_vpid_cap;
            (offered.value()?, offered.origin().to_owned())
        }
        EventKind::ShadowMmu(mmu) => match mmu.nested {
            Nested::Ept { shown, .. } => (shown?.into(), "nested.msrs.ept_caps".to_owned()),
            Nested::Npt { .. } => return None,
        },
        _ => return None,
    };
    let shown = shown & 0xffff_ffff;
    let capability = known.capability();
    let Some(hardware) = capability.value() else {
        let missing = format!("the EPT capability: {}", capability.origin());
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let evidence = vec![
        Evidence::new("shown to L1", format!("{shown:#x}"), origin),
        Evidence::new("EPT capability", format!("{hardware:#x}"), capability.origin()),
    ];
    let beyond = shown & !(hardware | EMULATED);
    if beyond == 0 {
        let message = format!("L1 is shown {shown:#x}, all of which is there");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    let bits: Vec<_> = (0..32).filter(|bit| beyond & (1 << bit) != 0).map(name).collect();
    let message = format!("L1 is shown what the hardware lacks: {}", bits.join(", "));
    Some(RULE.says(Verdict::Mismatch, message, evidence))
}

/// A bit of the capability; SDM Vol. 3D §A.10.
fn name(bit: u8) -> String {
    let what = match bit {
        0 => "execute-only",
        6 => "walks of 4 levels",
        7 => "walks of 5 levels",
        8 => "memory type UC",
        14 => "memory type WB",
        21 => "accessed and dirty flags",
        22 => "advanced exit information",
        23 => "supervisor shadow-stack control",
        _ => return format!("bit {bit}"),
    };
    format!("bit {bit} ({what})")
}
