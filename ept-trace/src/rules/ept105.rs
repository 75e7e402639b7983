//! EPT105 enable-ept: TDP is on only where the hardware allows it, and kvm and the vendor module
//! agree on whether it is.
//!
//! What it judges
//!   tdp_enabled of kvm against enable_ept of kvm_intel (npt_enabled of kvm_amd), at start and at
//!   every decision, and on VMX both against the conditions that hardware_setup tests; and
//!   enable_tdp, the argument of kvm_configure_mmu, when the module is loaded while we watch.
//!
//! Why it matters
//!   kvm_init_mmu builds shadow page tables or EPT by tdp_enabled, kvm_intel programs the VMCS
//!   by enable_ept. When the two differ, hardware walks tables of the wrong kind.
//!
//! Evidence
//!   cpu_has_vmx_ept_4levels (capability bit 6), cpu_has_vmx_ept_mt_wb (bit 14),
//!   cpu_has_vmx_invept_global (bit 26). TDP off where the hardware allows it is legal: the
//!   module may have been loaded with ept=0 or npt=0.
//!
//! What to do
//!   /sys/module/kvm_intel/parameters/ept shows enable_ept. If a condition fails on hardware
//!   that is known to have EPT, an outer hypervisor hides the bit.

use super::Rule;
use crate::model::{
    Decision, Event, EventKind, Evidence, Fact, Judgement, KernelFacts, Vendor, Verdict,
};
use crate::oracle::{Known, may_enable_ept};

pub(super) const RULE: Rule =
    Rule { id: "EPT105", name: "enable-ept", source: include_str!("ept105.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    match &event.kind {
        EventKind::Facts(facts) => judge_facts(facts, known),
        EventKind::Decision(decision) => judge_decision(decision, known),
        EventKind::ConfigureMmu(args) => {
            let enabled = Fact::known(args.enable_tdp, "argument of kvm_configure_mmu");
            allowed(&enabled, "enable_tdp", known)
        }
        _ => None,
    }
}

/// What the two hold at a decision: somebody may have changed one since they were set up.
fn judge_decision(decision: &Decision, known: &Known) -> Option<Judgement> {
    let inputs = &decision.inputs;
    let (name, vendor_says) = match known.vendor() {
        Vendor::Vmx => ("enable_ept", inputs.enable_ept),
        Vendor::Svm => ("npt_enabled", inputs.npt_enabled),
        Vendor::Other(_) | Vendor::None => return None,
    };
    let (tdp, vendor) = (inputs.tdp_enabled?, vendor_says?);
    let origin = "read at the decision";
    let evidence =
        vec![Evidence::new("tdp_enabled", tdp, origin), Evidence::new(name, vendor, origin)];
    Some(if tdp == vendor {
        RULE.says(Verdict::Ok, format!("both are {tdp}"), evidence)
    } else {
        let message = format!("tdp_enabled is {tdp}, {name} is {vendor}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

fn judge_facts(facts: &KernelFacts, known: &Known) -> Option<Judgement> {
    let (name, vendor_says) = match &facts.vendor {
        Vendor::Vmx => ("enable_ept", &facts.kvm.enable_ept),
        Vendor::Svm => ("npt_enabled", &facts.kvm.npt_enabled),
        Vendor::Other(_) | Vendor::None => return None,
    };
    let tdp_enabled = &facts.kvm.tdp_enabled;
    let (Some(tdp), Some(vendor)) = (tdp_enabled.value(), vendor_says.value()) else {
        let missing = if tdp_enabled.value().is_none() {
            format!("tdp_enabled: {}", tdp_enabled.origin())
        } else {
            format!("{name}: {}", vendor_says.origin())
        };
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let evidence = vec![
        Evidence::new("tdp_enabled", tdp, tdp_enabled.origin()),
        Evidence::new(name, vendor, vendor_says.origin()),
    ];
    if tdp == vendor {
        let agreed = || RULE.says(Verdict::Ok, format!("both are {tdp}"), evidence);
        return Some(allowed(vendor_says, name, known).unwrap_or_else(agreed));
    }
    let message = format!("tdp_enabled is {tdp}, {name} is {vendor}");
    Some(RULE.says(Verdict::Mismatch, message, evidence))
}

/// Whether what is enabled may be, on this hardware.
fn allowed(enabled: &Fact<bool>, name: &str, known: &Known) -> Option<Judgement> {
    let value = enabled.value()?;
    let mut evidence = vec![Evidence::new(name, value, enabled.origin())];
    if !value {
        let message = format!("{name} is off: the hardware or a module parameter says so");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    if *known.vendor() != Vendor::Vmx {
        // NPT has no conditions that could be asked for from here.
        return None;
    }
    let capability = known.capability();
    let Some(bits) = capability.value() else {
        let missing = format!("the EPT capability: {}", capability.origin());
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    evidence.push(Evidence::new("EPT capability", format!("{bits:#x}"), capability.origin()));
    Some(match may_enable_ept(bits) {
        Ok(()) => {
            let message = format!("{name} is on, and hardware_setup's conditions hold");
            RULE.says(Verdict::Ok, message, evidence)
        }
        Err(failed) => {
            let failed: Vec<_> = failed
                .iter()
                .map(|condition| format!("{} (bit {})", condition.function, condition.bit))
                .collect();
            let message = format!("{name} is on, although {} fails", failed.join(", "));
            RULE.says(Verdict::Mismatch, message, evidence)
        }
    })
}
