//! EPT104 level-capability: the levels that the vendor module handed to kvm are the ones that
//! the hardware can walk.
//!
//! What it judges
//!   max_tdp_level and tdp_root_level as kvm holds them, at start and at every decision, and the
//!   arguments of kvm_configure_mmu when the vendor module is loaded while we watch.
//!
//! Why it matters
//!   Every root level of every guest is chosen from these two. With 5 on hardware that walks 4,
//!   no guest above 48 bits can be entered; with 4 on hardware that walks 5, what such a guest
//!   has above 48 bits is never mapped.
//!
//! Evidence
//!   VMX: bit 7 of IA32_VMX_EPT_VPID_CAP (MSR 0x48c), else of vmx_capability.ept; nothing is
//!   forced. SVM: whether the host itself runs with 5-level paging, for NPT has the host's
//!   levels; forced from 5.15 on. Without TDP the levels are never used, and are not judged.
//!
//! What to do
//!   Compare with `ept-trace explain --maxphyaddr 52`. If the capability differs between CPUs or
//!   after resume, look at firmware; if KVM's copy differs from the MSR, see EPT106.

use super::Rule;
use crate::model::{
    Decision, Event, EventKind, Evidence, Fact, Judgement, KernelFacts, Vendor, Verdict,
};
use crate::oracle::{Known, expected_levels};

pub(super) const RULE: Rule =
    Rule { id: "EPT104", name: "level-capability", source: include_str!("ept104.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let facts = known.facts()?;
    match &event.kind {
        EventKind::Facts(facts) if facts.vendor == Vendor::None => None,
        EventKind::Facts(facts) => {
            if facts.kvm.tdp_enabled.value() == Some(false) {
                return Some(RULE.says(Verdict::Ok, "TDP is off, its levels are unused", vec![]));
            }
            let forced = facts.kvm.tdp_root_level.clone();
            Some(compare(facts, known, &forced, &facts.kvm.max_tdp_level))
        }
        EventKind::Decision(decision) => judge_decision(decision, facts, known),
        EventKind::ConfigureMmu(args) if !args.enable_tdp => {
            Some(RULE.says(Verdict::Ok, "TDP is not enabled, its levels are unused", vec![]))
        }
        EventKind::ConfigureMmu(args) => {
            let origin = "argument of kvm_configure_mmu";
            let forced = Fact::known(args.forced_root_level.unwrap_or(0), origin);
            let max = Fact::known(args.max_root_level?, origin);
            Some(compare(facts, known, &forced, &max))
        }
        _ => None,
    }
}

/// What kvm holds at a decision: somebody may have changed it since it was set up.
fn judge_decision(decision: &Decision, facts: &KernelFacts, known: &Known) -> Option<Judgement> {
    let inputs = &decision.inputs;
    let is_known = matches!(facts.vendor, Vendor::Vmx | Vendor::Svm);
    if !is_known || inputs.tdp_enabled != Some(true) {
        return None;
    }
    let origin = "read at the decision";
    let forced = match inputs.tdp_root_level {
        Some(level) => Fact::known(level, origin),
        // What the kernel does not have, it does not force.
        None if !facts.behaviour.has_tdp_root_level => facts.kvm.tdp_root_level.clone(),
        None => return None,
    };
    let max = Fact::known(inputs.max_tdp_level?, origin);
    Some(compare(facts, known, &forced, &max))
}

fn compare(facts: &KernelFacts, known: &Known, forced: &Fact<u8>, max: &Fact<u8>) -> Judgement {
    let expected =
        expected_levels(&facts.vendor, &facts.behaviour, &facts.hardware, &known.capability());
    let (Some((want_forced, want_max)), Some(got_forced), Some(got_max)) =
        (expected.value(), forced.value(), max.value())
    else {
        let missing = [("the hardware's levels", expected.value().is_none(), expected.origin())]
            .into_iter()
            .chain([
                ("tdp_root_level", forced.value().is_none(), forced.origin()),
                ("max_tdp_level", max.value().is_none(), max.origin()),
            ])
            .find(|(_, missing, _)| *missing)
            .map_or_else(String::new, |(what, _, why)| format!("{what}: {why}"));
        return RULE.says(Verdict::Undetermined, missing, vec![]);
    };
    let evidence = vec![
        Evidence::new("max_tdp_level", got_max, max.origin()),
        Evidence::new("tdp_root_level", got_forced, forced.origin()),
        Evidence::new("levels of the hardware", want_max, expected.origin()),
    ];
    if (got_forced, got_max) == (want_forced, want_max) {
        let message = format!("max_tdp_level {got_max}, tdp_root_level {got_forced}");
        return RULE.says(Verdict::Ok, message, evidence);
    }
    let message = format!(
        "max_tdp_level {got_max} and tdp_root_level {got_forced}, \
         the hardware calls for {want_max} and {want_forced}"
    );
    RULE.says(Verdict::Mismatch, message, evidence)
}
