//! EPT108 stale-level: the root that is put in use has the level that a decision taken now would
//! give it.
//!
//! What it judges
//!   The level of the root MMU when a vCPU's TDP root is handed to the hardware (vmx_load_mmu_pgd,
//!   svm_load_mmu_pgd), unless it is as it was decided, which is for EPT103; and at a decision, an
//!   MMU that was kept although MAXPHYADDR has changed: EPT103 says that its level is wrong, this
//!   rule why. A MAXPHYADDR that changes after the vCPU has run is an advisory, whatever the level.
//!
//! Why it matters
//!   The level is chosen when the MMU is set up. When MAXPHYADDR changes after that and the MMU is
//!   kept, a guest above 48 bits runs on a root that maps 48, or the other way round. Once a vCPU
//!   has run, there are pages made for its old width, which KVM goes on to use (feb627e8d6f6).
//!
//! Evidence
//!   arch.maxphyaddr and KVM's own variables at that very moment, run through
//!   kvm_mmu_get_tdp_level; MAXPHYADDR at the vCPU's last decision, if one was seen. The MMU must be
//!   set up again after every change of the CPUID: MAXPHYADDR was made part of its role for that
//!   (de3ccd26fafc, 5.0), and roles are invalidated by force since (49c6f8756cdf, 5.14).
//!
//! What to do
//!   See what changed the CPUID, and that kvm_mmu_reset_context follows it. KVM_SET_CPUID2 after
//!   the first KVM_RUN is only accepted if nothing changes (from 5.16 on); before, it does more harm
//!   than this.

use super::Rule;
use crate::model::{Decision, Event, EventKind, Evidence, Judgement, Load, Vendor, Verdict};
use crate::oracle::{Decided, Known, replay};

pub(super) const RULE: Rule =
    Rule { id: "EPT108", name: "stale-level", source: include_str!("ept108.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    if !matches!(known.vendor(), Vendor::Vmx | Vendor::Svm) {
        return None;
    }
    match &event.kind {
        EventKind::Load(load) if !load.nested && load.is_tdp() => judge_load(load, known),
        EventKind::Decision(decision) if !decision.nested => match judge_kept(decision, known) {
            Some(wrong) if wrong.verdict != Verdict::Ok => Some(wrong),
            kept => judge_change(decision, known).or(kept),
        },
        _ => None,
    }
}

fn judge_load(load: &Load, known: &Known) -> Option<Judgement> {
    if known.tdp_enabled(&load.inputs).value() == Some(false) {
        // Then there should be no root of TDP at all, which is for EPT105.
        return None;
    }
    let actual = load.mmu_level?;
    let last = known.vcpus().get(load.vm, load.vcpu).decided;
    let fresh = match replay(&known.fresh_inputs(load.maxphyaddr, &load.inputs)) {
        Ok(fresh) => fresh.level?,
        Err(missing) => {
            let missing = format!("{} is not known: {}", missing.what, missing.why);
            return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
        }
    };
    let now = Decided { maxphyaddr: load.maxphyaddr, root_level: load.mmu_level };
    if actual != fresh && last == Some(now) {
        // As it was decided: whether rightly is for EPT103.
        return None;
    }
    let evidence = evidence(actual, fresh, load.maxphyaddr, last, &load.observed_by);
    Some(told(actual, fresh, evidence))
}

/// A role that is as before was kept, which is legal if the level is still the right one.
fn judge_kept(decision: &Decision, known: &Known) -> Option<Judgement> {
    let last = known.vcpus().get(decision.vm, decision.vcpu).decided?;
    let (before, actual) = (decision.before?, decision.after.root_level?);
    let is_kept = before.role == decision.after.role && before.root_level == Some(actual);
    if !is_kept || actual == 0 || last.maxphyaddr == decision.maxphyaddr {
        return None;
    }
    // Without a replay EPT103 says which fact is missing.
    let fresh = replay(&known.replay_inputs(decision)).ok()?.level?;
    let evidence = evidence(actual, fresh, decision.maxphyaddr, Some(last), &decision.observed_by);
    Some(told(actual, fresh, evidence))
}

/// Userspace may not change the CPUID of a vCPU that has run, and kernels up to 5.15 let it.
fn judge_change(decision: &Decision, known: &Known) -> Option<Judgement> {
    let vcpu = known.vcpus().get(decision.vm, decision.vcpu);
    let (then, now) = (vcpu.decided?.maxphyaddr?, decision.maxphyaddr?);
    if !vcpu.has_run || then == now {
        return None;
    }
    let evidence = vec![
        Evidence::new("MAXPHYADDR", now, "vcpu->arch.maxphyaddr"),
        Evidence::new("MAXPHYADDR then", then, "the last decision"),
    ];
    let message = format!("MAXPHYADDR changes from {then} to {now} after the vCPU has run");
    Some(RULE.says(Verdict::Advisory, message, evidence))
}

fn evidence(
    actual: u8,
    fresh: u8,
    maxphyaddr: Option<u32>,
    last: Option<Decided>,
    observed_by: &str,
) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new("root level", actual, observed_by),
        Evidence::new("a fresh decision", fresh, "kvm_mmu_get_tdp_level, replayed"),
    ];
    if let Some(bits) = maxphyaddr {
        evidence.push(Evidence::new("MAXPHYADDR", bits, "vcpu->arch.maxphyaddr"));
    }
    if let Some(bits) = last.and_then(|last| last.maxphyaddr) {
        evidence.push(Evidence::new("MAXPHYADDR then", bits, "the last decision"));
    }
    evidence
}

fn told(actual: u8, fresh: u8, evidence: Vec<Evidence>) -> Judgement {
    if actual == fresh {
        let message = format!("root level {actual}, as a fresh decision would have it");
        return RULE.says(Verdict::Ok, message, evidence);
    }
    let message = format!("root level {actual} is stale: a fresh decision gives {fresh}");
    RULE.says(Verdict::Mismatch, message, evidence)
}
