//! EPT106 capability-read: KVM's copy of the EPT capability is what the MSR says.
//!
//! What it judges
//!   vmx_capability.ept of kvm_intel, which setup_vmcs_config read when the module was loaded: when
//!   the machine is read, and at every decision. And that all CPUs have the same capability.
//!
//! Why it matters
//!   Levels, page sizes, accessed and dirty bits, INVEPT: KVM decides all of them on this copy
//!   and never reads the MSR again.
//!
//! Evidence
//!   MSR 0x48c (IA32_VMX_EPT_VPID_CAP), low half, through /dev/cpu/*/msr. Where the controls do
//!   not offer EPT (MSR 0x482 bit 63, MSR 0x48b bit 33), KVM keeps 0.
//!
//! What to do
//!   Without /dev/cpu/0/msr the verdict is undetermined: `modprobe msr` makes it. If the two
//!   differ, something wrote vmx_capability after the module was loaded, or an outer hypervisor
//!   changed the MSR (live migration between unlike hosts does).

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Fact, Hardware, Judgement, Vendor, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT106", name: "capability-read", source: include_str!("ept106.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    match &event.kind {
        EventKind::Facts(facts) if facts.vendor == Vendor::Vmx => {
            let hardware = &facts.hardware;
            let compared = compare(&facts.kvm.vmx_capability_ept, hardware);
            match hardware.differing_ept_vpid_cap.first() {
                Some((cpu, value)) if compared.verdict != Verdict::Mismatch => {
                    Some(differs(*cpu, *value, &hardware.ept_vpid_cap))
                }
                _ => Some(compared),
            }
        }
        EventKind::Decision(decision) if *known.vendor() == Vendor::Vmx => {
            let hardware = &known.facts()?.hardware;
            // What is missing of the hardware has been told with the facts.
            hardware.ept_vpid_cap.value()?;
            let copy = decision.inputs.vmx_capability_ept?;
            Some(compare(
                &Fact::known(copy, "vmx_capability of kvm_intel, at that moment"),
                hardware,
            ))
        }
        _ => None,
    }
}

fn differs(cpu: u32, value: u64, first: &Fact<u64>) -> Judgement {
    let first_value = first.value().unwrap_or_default();
    let evidence = vec![
        Evidence::new("of CPU 0", format!("{first_value:#x}"), first.origin()),
        Evidence::new(
            &format!("of CPU {cpu}"),
            format!("{value:#x}"),
            format!("/dev/cpu/{cpu}/msr"),
        ),
    ];
    let message = format!("MSR 0x48c is {first_value:#x} on CPU 0, and {value:#x} on CPU {cpu}");
    RULE.says(Verdict::Mismatch, message, evidence)
}

/// KVM's copy against the MSR.
fn compare(kvm: &Fact<u32>, hardware: &Hardware) -> Judgement {
    let (msr, offered) = (&hardware.ept_vpid_cap, &hardware.offers_ept);
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
        return RULE.says(Verdict::Undetermined, missing, vec![]);
    };
    let expected = if offers_ept { capability & 0xffff_ffff } else { 0 };
    let evidence = vec![
        Evidence::new("vmx_capability.ept", format!("{copy:#x}"), kvm.origin()),
        Evidence::new("expected", format!("{expected:#x}"), "the MSR's low half"),
        Evidence::new("IA32_VMX_EPT_VPID_CAP", format!("{capability:#x}"), msr.origin()),
        Evidence::new("EPT offered", offers_ept, offered.origin()),
    ];
    if u64::from(copy) == expected {
        let message = format!("vmx_capability.ept is {copy:#x}, as the MSR says");
        RULE.says(Verdict::Ok, message, evidence)
    } else {
        let message = format!("vmx_capability.ept is {copy:#x}, the MSR says {expected:#x}");
        RULE.says(Verdict::Mismatch, message, evidence)
    }
}
