//! EPT106 capability-read: KVM's copy of the EPT capability is what the MSR says.
//!
//! What it judges
//!   vmx_capability.ept of kvm_intel, which setup_vmcs_config read when the module was loaded.
//!
//! Why it matters
//!   Levels, page sizes, accessed and dirty bits, INVEPT: KVM decides all of them on this copy
//!   and never reads the MSR again.
//!
//! Evidence
//!   MSR 0x48c (IA32_VMX_EPT_VPID_CAP), low half, through /dev/cpu/0/msr. Where the controls do
//!   not offer EPT (MSR 0x482 bit 63, MSR 0x48b bit 33), KVM keeps 0.
//!
//! What to do
//!   Without /dev/cpu/0/msr the verdict is undetermined: `modprobe msr` makes it. If the two
//!   differ, something wrote vmx_capability after the module was loaded, or an outer hypervisor
//!   changed the MSR (live migration between unlike hosts does).

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Vendor, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT106", name: "capability-read", source: include_str!("ept106.rs"), judge };

fn judge(event: &Event, _known: &Known) -> Option<Judgement> {
    let EventKind::Facts(facts) = &event.kind else { return None };
    if facts.vendor != Vendor::Vmx {
        return None;
    }
    let (kvm, msr) = (&facts.kvm.vmx_capability_ept, &facts.hardware.ept_vpid_cap);
    let offered = &facts.hardware.offers_ept;
    let (Some(copy), Some(capability), Some(offers_ept)) =
        (kvm.value(), msr.value(), offered.value())
    else {
        let missing = if kvm.value().is_none() {
            format!("vmx_capability.ept: {}", kvm.origin())
        } else if offered.value().is_none() {
            format!("whether EPT is offered (MSR 0x482, 0x48b): {}", offered.origin())
        } else {
            format!("MSR 0x48c: {}", msr.origin())
        };
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let expected = if offers_ept { capability & 0xffff_ffff } else { 0 };
    let evidence = vec![
        Evidence::new("vmx_capability.ept", format!("{copy:#x}"), kvm.origin()),
        Evidence::new("IA32_VMX_EPT_VPID_CAP", format!("{capability:#x}"), msr.origin()),
        Evidence::new("EPT offered", offers_ept, offered.origin()),
    ];
    Some(if u64::from(copy) == expected {
        let message = format!("vmx_capability.ept is {copy:#x}, as the MSR says");
        RULE.says(Verdict::Ok, message, evidence)
    } else {
        let message = format!("vmx_capability.ept is {copy:#x}, the MSR says {expected:#x}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
