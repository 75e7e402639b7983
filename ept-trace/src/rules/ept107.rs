//! EPT107 huge-page-level: the largest page that the vendor module tells kvm of is one that the
//! EPT capability has.
//!
//! What it judges
//!   tdp_huge_page_level, an argument of kvm_configure_mmu, when kvm_intel is loaded while we
//!   watch.
//!
//! Why it matters
//!   kvm maps guests with pages up to that size. A page size that the hardware does not have is a
//!   misconfigured entry, and the guest's end; one that is left out costs every guest its speed.
//!
//! Evidence
//!   Bit 17 of IA32_VMX_EPT_VPID_CAP (MSR 0x48c) for 1 GiB, level 3; bit 16 for 2 MiB, level 2;
//!   else 4 KiB, level 1. Where EPT is off the level is not used, and is not judged; nor is that
//!   of NPT, which has no such capability.
//!
//! What to do
//!   Compare the capability with the MSR, as EPT106 does. If they agree, hardware_setup has read
//!   the bits wrong.

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Vendor, Verdict};
use crate::oracle::{Known, ept_huge_page_level};

pub(super) const RULE: Rule =
    Rule { id: "EPT107", name: "huge-page-level", source: include_str!("ept107.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::ConfigureMmu(args) = &event.kind else { return None };
    if *known.vendor() != Vendor::Vmx || !args.enable_tdp {
        return None;
    }
    let actual = args.huge_page_level?;
    let capability = known.capability();
    let Some(bits) = capability.value() else {
        let missing = format!("the EPT capability: {}", capability.origin());
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let expected = ept_huge_page_level(bits);
    let evidence = vec![
        Evidence::new("tdp_huge_page_level", actual, "argument of kvm_configure_mmu"),
        Evidence::new("EPT capability", format!("{bits:#x}"), capability.origin()),
    ];
    Some(if actual == expected {
        RULE.says(Verdict::Ok, format!("largest page level {actual}"), evidence)
    } else {
        let message = format!("largest page level {actual}, the capability gives {expected}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
