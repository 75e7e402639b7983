//! EPT103 root-level: the root level of the MMU that was set up is the one that KVM's own rule
//! gives on KVM's own inputs.
//!
//! What it judges
//!   root_role.level (shadow_root_level before 5.19) of the root MMU, when kvm_init_mmu returns:
//!   under TDP and under shadow paging. While L2 runs on nested TDP the root MMU is not touched,
//!   and nothing is judged.
//!
//! Why it matters
//!   A root of 4 levels maps 48 bits of guest-physical address: above that, a guest faults for
//!   ever. A root whose depth is not what hardware is told walks garbage.
//!
//! Evidence
//!   tdp_root_level, max_tdp_level and tdp_enabled, read from kvm at the decision itself, else
//!   the arguments of kvm_configure_mmu, else read at start; arch.maxphyaddr. The rule is
//!   kvm_mmu_get_tdp_level: the forced level if there is one; 4 if at most 5 is possible and
//!   MAXPHYADDR is not above 48; else the maximum. A level of 4 at vCPU creation is right
//!   where nothing is forced: until its CPUID is set, a vCPU has MAXPHYADDR 36.
//!
//! What to do
//!   The evidence names every input. If level and inputs disagree, the level is stale (an MMU
//!   that was not set up again) or the kernel's rule has changed.

use super::Rule;
use crate::model::{
    Decision, Event, EventKind, Evidence, Fact, Inputs, Judgement, Mode, Root, Vendor, Verdict,
};
use crate::oracle::{Branch, Known, ReplayInputs, replay};

pub(super) const RULE: Rule =
    Rule { id: "EPT103", name: "root-level", source: include_str!("ept103.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    match &event.kind {
        EventKind::Decision(decision) => judge_decision(decision, known),
        EventKind::Root(root) => judge_root(root, known),
        _ => None,
    }
}

/// The page that a root is made of has the root's level; with 3 levels, the root is four entries
/// (`pae_root`) that point to pages of level 2.
///
/// Only pages of that level and above are observed: a page above it is what this can tell. Roots
/// of L2 (`guest_mode`) and of TDX (`is_mirror`) belong to other MMUs.
fn judge_root(root: &Root, known: &Known) -> Option<Judgement> {
    const GUEST_MODE: u32 = 1 << 17;
    const IS_MIRROR: u32 = 1 << 19;
    if root.role.is_some_and(|role| role & (GUEST_MODE | IS_MIRROR) != 0) {
        return None;
    }
    let Some(of_mmu) = root.root_level else { return judge_told_root(root, known) };
    if !matches!(known.vendor(), Vendor::Vmx | Vendor::Svm) {
        return None;
    }
    let expected = if of_mmu == 3 { 2 } else { of_mmu };
    let evidence = vec![
        Evidence::new("level of the page", root.level(), "kvmmmu:kvm_mmu_get_page"),
        Evidence::new("level of the root MMU", of_mmu, "the vCPU"),
    ];
    let level = root.level();
    Some(if level == expected {
        let message = format!("a root page of level {level}, for a root MMU of level {of_mmu}");
        RULE.says(Verdict::Ok, message, evidence)
    } else {
        let message = format!("a root page has level {level}, the root MMU level {of_mmu}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

/// A log has the page alone: what its root should be is replayed.
///
/// Only direct pages are roots of TDP that this can be done for; others shadow a table of a guest.
fn judge_told_root(root: &Root, known: &Known) -> Option<Judgement> {
    const DIRECT: u32 = 1 << 7;
    let is_direct = match root.role {
        Some(role) => role & DIRECT != 0,
        None => root.told?.direct,
    };
    if !is_direct {
        return None;
    }
    if known.facts().is_none() {
        let missing = "nothing is known of the machine: give --kernel-facts with what `doctor -j` \
                       says there, or --ept-cap (Intel) or --npt (AMD)";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    }
    let mut inputs = known.fresh_inputs(None, &Inputs::default());
    let not_told = || Fact::unknown("the log does not tell it: give --maxphyaddr");
    inputs.maxphyaddr = root.maxphyaddr.clone().unwrap_or_else(not_told);
    let expected = match replay(&inputs) {
        Ok(replay) => replay.level?,
        Err(missing) => {
            let missing = format!("{} is not known: {}", missing.what, missing.why);
            return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
        }
    };
    let level = root.level();
    let mut evidence = vec![Evidence::new("level of the root", level, "kvmmmu:kvm_mmu_get_page")];
    evidence.push(Evidence::new("expected", expected, "replayed"));
    evidence.extend(of_inputs(&inputs));
    Some(if level == expected {
        RULE.says(Verdict::Ok, format!("a root of level {level}"), evidence)
    } else {
        let message = format!("a root has level {level}, should have {expected}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

fn judge_decision(decision: &Decision, known: &Known) -> Option<Judgement> {
    let undetermined = |missing: String| Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    if let Vendor::Other(module) = known.vendor() {
        return undetermined(format!("how {module} chooses a root level is not known"));
    }
    let inputs = known.replay_inputs(decision);
    let replay = match replay(&inputs) {
        Ok(replay) => replay,
        Err(missing) => {
            return undetermined(format!("{} is not known: {}", missing.what, missing.why));
        }
    };
    let expected = replay.level?;
    let Some(actual) = decision.after.root_level else {
        return undetermined("the root level could not be read".to_owned());
    };
    if actual == 0 && decision.before.is_none() {
        // Seen between decisions: the roles are wiped until the next one.
        return undetermined("the root MMU was not set up at that moment".to_owned());
    }
    let evidence = evidence(decision, expected, &inputs, replay.mode);
    let why = reason(replay.branch, &inputs);
    Some(if actual == expected {
        RULE.says(Verdict::Ok, format!("root level {actual}: {why}"), evidence)
    } else {
        let message = format!("root level is {actual}, should be {expected}: {why}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

fn reason(branch: Branch, inputs: &ReplayInputs<'_>) -> String {
    let maxphyaddr = inputs.maxphyaddr.value().unwrap_or_default();
    match branch {
        Branch::Nested => "the root MMU is not touched".to_owned(),
        Branch::Forced => "the vendor module forces it".to_owned(),
        Branch::FourReaches => format!("MAXPHYADDR {maxphyaddr} is not above 48"),
        Branch::Max => format!("max_tdp_level, at MAXPHYADDR {maxphyaddr}"),
        Branch::Shadow => "shadow paging follows the guest's mode".to_owned(),
    }
}

fn evidence(
    decision: &Decision,
    expected: u8,
    inputs: &ReplayInputs<'_>,
    mode: Mode,
) -> Vec<Evidence> {
    let level = decision.after.root_level.unwrap_or_default();
    let mut evidence = vec![
        Evidence::new("root level", level, &*decision.observed_by),
        Evidence::new("expected", expected, "replayed"),
    ];
    match (mode, inputs.paging) {
        (Mode::Soft, Some((cr4, efer))) => {
            evidence.push(Evidence::new("CR4", format!("{cr4:#x}"), "arch.cr4"));
            evidence.push(Evidence::new("EFER", format!("{efer:#x}"), "arch.efer"));
        }
        _ => {
            evidence.extend(of_inputs(inputs));
        }
    }
    evidence
}

/// What goes into the choice between 4 and 5.
fn of_inputs(inputs: &ReplayInputs<'_>) -> impl Iterator<Item = Evidence> {
    let facts = [
        ("tdp_root_level", &inputs.forced),
        ("max_tdp_level", &inputs.max),
        ("MAXPHYADDR", &inputs.maxphyaddr),
    ];
    facts.into_iter().filter_map(|(what, fact)| {
        fact.value().map(|value| Evidence::new(what, value, fact.origin()))
    })
}
