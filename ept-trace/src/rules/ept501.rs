//! EPT501 nested-level: KVM shadows L1's EPT with a table of as many levels as L1's has.
//!
//! What it judges
//!   The root level of guest_mmu when kvm_init_shadow_ept_mmu returns, on VMX, and the level that it
//!   walks L1's table from.
//!
//! Why it matters
//!   KVM walks L1's table from the level that it takes it to have. From the wrong one it reads
//!   L1's entries at the wrong places, and L2 gets the wrong memory, or hangs on its first
//!   instruction (148d735eb55d).
//!
//! Evidence
//!   EPTP12, an argument of that function: bits 5:3 plus one (vmx_eptp_page_walk_level). Neither
//!   L1's MAXPHYADDR nor the level of L1's own root matters: 5 levels for L2 under a root of 4 for
//!   L1 are legal. Kernels before 5.7 shadow 4 levels only.
//!
//! What to do
//!   See which walk lengths L1 is offered (EPT502), and what kvm_init_shadow_ept_mmu makes of its
//!   last argument.

use ept_trace_common::eptp::walk_length;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Nested, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT501", name: "nested-level", source: include_str!("ept501.rs"), judge };

fn judge(event: &Event, _known: &Known) -> Option<Judgement> {
    let EventKind::ShadowMmu(mmu) = &event.kind else { return None };
    let Nested::Ept { eptp12, .. } = mmu.nested else { return None };
    let (Some(eptp12), Some(actual)) = (eptp12, mmu.level) else {
        let missing = match eptp12 {
            None => "which argument of kvm_init_shadow_ept_mmu EPTP12 is: no BTF of kvm says so",
            Some(_) => "the level of guest_mmu could not be read",
        };
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let expected = walk_length(eptp12);
    let evidence = vec![
        Evidence::new("level of guest_mmu", actual, &*mmu.observed_by),
        Evidence::new("walk length of EPTP12", expected, "EPTP12 bits 5:3"),
        Evidence::new("EPTP12", format!("{eptp12:#x}"), "argument of kvm_init_shadow_ept_mmu"),
    ];
    if let Some(walked) = mmu.walk_level.filter(|walked| *walked != expected) {
        let message = format!("EPTP12 has a walk of {expected}, and is walked from level {walked}");
        return Some(RULE.says(Verdict::Mismatch, message, evidence));
    }
    Some(if actual == expected {
        RULE.says(Verdict::Ok, format!("{actual} levels, as EPTP12 has"), evidence)
    } else {
        let message = format!("guest_mmu has {actual} levels, EPTP12 a walk of {expected}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
