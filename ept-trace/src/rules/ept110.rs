//! EPT110 direct-map: under TDP, the root MMU maps guest-physical addresses directly, and the MMU
//! for a nested guest does not.
//!
//! What it judges
//!   root_role.direct (direct_map before 5.19) of the root MMU, when kvm_init_mmu has gone the
//!   TDP way; and of guest_mmu, when kvm_init_shadow_ept_mmu or kvm_init_shadow_npt_mmu returns.
//!
//! Why it matters
//!   A direct root is filled from memslots alone. One that is not direct is filled by walking the
//!   guest's page tables: under TDP that is the hardware's work, and for L2 it is what L1's tables
//!   are for. Taken the wrong way, a guest gets other memory than its own.
//!
//! Evidence
//!   init_kvm_tdp_mmu sets the bit on all kernels, the other two leave it out. Which way was taken
//!   follows from mmu_is_nested and tdp_enabled. Shadow paging is direct or not by the guest's own
//!   mode, and not judged.
//!
//! What to do
//!   Look at what wrote the role after it was calculated, or why a role of shadow paging was kept
//!   when TDP came on.

use super::Rule;
use crate::model::{
    Decision, Event, EventKind, Evidence, Judgement, Mode, ShadowMmu, Vendor, Verdict,
};
use crate::oracle::{Known, replay};

pub(super) const RULE: Rule =
    Rule { id: "EPT110", name: "direct-map", source: include_str!("ept110.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    match &event.kind {
        EventKind::Decision(decision) => judge_decision(decision, known),
        EventKind::ShadowMmu(mmu) => Some(judge_shadow(mmu)),
        _ => None,
    }
}

fn judge_shadow(mmu: &ShadowMmu) -> Judgement {
    let Some(direct) = mmu.direct else {
        let missing = "the direct bit of guest_mmu could not be read";
        return RULE.says(Verdict::Undetermined, missing, vec![]);
    };
    let evidence = vec![
        Evidence::new("direct", direct, &*mmu.observed_by),
        Evidence::new("expected", false, "it shadows L1's tables"),
    ];
    if direct {
        let message = "guest_mmu is direct, although it shadows L1's tables";
        return RULE.says(Verdict::Mismatch, message, evidence);
    }
    RULE.says(Verdict::Ok, "guest_mmu shadows L1's tables", evidence)
}

fn judge_decision(decision: &Decision, known: &Known) -> Option<Judgement> {
    // Seen between decisions, a wiped role says nothing.
    let is_wiped = decision.before.is_none() && decision.after.root_level == Some(0);
    let is_known = matches!(known.vendor(), Vendor::Vmx | Vendor::Svm);
    if !is_known || is_wiped {
        return None;
    }
    let inputs = known.replay_inputs(decision);
    // Without a replay EPT103 says which fact is missing.
    if replay(&inputs).ok()?.mode != Mode::Tdp {
        return None;
    }
    let Some(direct) = decision.after.direct else {
        let missing = "the direct bit could not be read";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let mut evidence = vec![Evidence::new("direct", direct, &*decision.observed_by)];
    if let Some(tdp_enabled) = inputs.tdp_enabled.value() {
        evidence.push(Evidence::new("tdp_enabled", tdp_enabled, inputs.tdp_enabled.origin()));
    }
    Some(if direct {
        RULE.says(Verdict::Ok, "the root MMU is direct", evidence)
    } else {
        let message = "the root MMU is not direct, although TDP is enabled";
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
