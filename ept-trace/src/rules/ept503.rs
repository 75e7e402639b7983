//! EPT503 nested-npt-level: KVM shadows L1's NPT with a table of the host's levels, and marks it
//! where L1's has one less.
//!
//! What it judges
//!   The root level of guest_mmu when kvm_init_shadow_npt_mmu returns, on SVM; and the bit
//!   passthrough of its role, where the kernel has it (5.19).
//!
//! Why it matters
//!   The hardware walks NPT as deep as the host's own paging, whatever L1 asks for. A shadow of
//!   L1's depth (a3322d5cd87f, 096586fda522), or a fifth level that is filled as if it were L1's
//!   (84e5ffd045f3), gives L2 the wrong memory.
//!
//! Evidence
//!   kvm_mmu_get_tdp_level on KVM's own variables at that moment, as for EPT103. L1's depth is that
//!   of its own paging: EFER.LMA and CR4.LA57, arguments of that function.
//!
//! What to do
//!   Look at kvm_init_shadow_npt_mmu: the level must come from the host, L1's from its registers
//!   alone.

use ept_trace_common::decision::shadow_root_level;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Nested, Verdict};
use crate::oracle::{Known, replay};

pub(super) const RULE: Rule =
    Rule { id: "EPT503", name: "nested-npt-level", source: include_str!("ept503.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::ShadowMmu(mmu) = &event.kind else { return None };
    let Nested::Npt { l1 } = mmu.nested else { return None };
    let replayed = match replay(&known.fresh_inputs(mmu.maxphyaddr, &mmu.inputs)) {
        Ok(replay) => replay.level,
        Err(missing) => {
            let missing = format!("{} is not known: {}", missing.what, missing.why);
            return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
        }
    };
    let (Some(expected), Some(actual)) = (replayed, mmu.level) else {
        let missing = "the level of guest_mmu could not be read";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let mut evidence = vec![
        Evidence::new("level of guest_mmu", actual, &*mmu.observed_by),
        Evidence::new("the host's level", expected, "kvm_mmu_get_tdp_level, replayed"),
    ];
    if actual != expected {
        let message = format!("guest_mmu has {actual} levels, the host walks {expected}");
        return Some(RULE.says(Verdict::Mismatch, message, evidence));
    }
    let passthrough = known.facts().and_then(|facts| facts.behaviour.passthrough_bit);
    let of_l1 = l1.map(|(cr4, efer)| shadow_root_level(cr4, efer));
    if let (Some(role), Some(bit), Some(of_l1)) = (mmu.role, passthrough, of_l1) {
        evidence.push(Evidence::new("levels of L1", of_l1, "its CR4 and EFER, arguments"));
        let (passes, should_pass) = (role >> bit & 1 != 0, actual == 5 && of_l1 == 4);
        evidence.push(Evidence::new("passthrough", passes, "root_role of guest_mmu"));
        evidence.push(Evidence::new("passthrough expected", should_pass, "replayed"));
        if passes != should_pass {
            let message = format!(
                "passthrough is {passes}, with {actual} levels of the host and {of_l1} of L1"
            );
            return Some(RULE.says(Verdict::Mismatch, message, evidence));
        }
    }
    Some(RULE.says(Verdict::Ok, format!("{actual} levels, as the host walks"), evidence))
}
