//! EPT102 mmu-mode: kvm_init_mmu has set up the kind of MMU that it had to: nested, TDP or soft.
//!
//! What it judges
//!   The root MMU's page_fault function, when kvm_init_mmu returns. init_kvm_tdp_mmu, and nothing
//!   else, makes it kvm_tdp_page_fault. While L2 runs on nested TDP, the root MMU must be left as
//!   it was.
//!
//! Why it matters
//!   The tables of shadow paging translate virtual addresses, those of TDP guest-physical ones.
//!   Hardware that is given the one for the other walks garbage, and the guest faults for ever.
//!
//! Evidence
//!   mmu_is_nested (arch.mmu is arch.guest_mmu) first, then tdp_enabled, the same on all kernels
//!   from 4.14 to 7.3. tdp_enabled is read from kvm at the decision itself; the function is known
//!   by its address in /proc/kallsyms. Where either cannot be read, nothing is judged.
//!
//! What to do
//!   If tdp_enabled was changed after the vCPU was created, EPT105 says who disagrees with it. If
//!   not, kvm_init_mmu took a way that its own inputs do not explain: look at its disassembly, and
//!   at what else writes root_mmu.

use super::Rule;
use crate::model::{
    Decision, Event, EventKind, Evidence, Judgement, Mode, PageFaultHandler, Vendor, Verdict,
};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT102", name: "mmu-mode", source: include_str!("ept102.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Decision(decision) = &event.kind else { return None };
    if !matches!(known.vendor(), Vendor::Vmx | Vendor::Svm) {
        return None;
    }
    if decision.nested { judge_nested(decision) } else { judge_own(decision, known) }
}

/// For the vCPU's own address space: TDP or soft.
fn judge_own(decision: &Decision, known: &Known) -> Option<Judgement> {
    let actual = decision.after.page_fault?;
    let tdp_enabled = known.tdp_enabled(&decision.inputs);
    let mode = if tdp_enabled.value()? { Mode::Tdp } else { Mode::Soft };
    let is_tdp = actual == PageFaultHandler::Tdp;
    let evidence = vec![
        Evidence::new("root_mmu.page_fault", actual, &*decision.observed_by),
        Evidence::new("tdp_enabled", mode == Mode::Tdp, tdp_enabled.origin()),
    ];
    Some(if is_tdp == (mode == Mode::Tdp) {
        RULE.says(Verdict::Ok, format!("the {mode} MMU, as tdp_enabled says"), evidence)
    } else {
        let message = format!(
            "the root MMU's page_fault is {actual}, although tdp_enabled calls for the {mode} MMU"
        );
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}

/// For L2: `init_kvm_nested_mmu` sets up another MMU, and not this one.
fn judge_nested(decision: &Decision) -> Option<Judgement> {
    let (before, after) = (decision.before?, decision.after);
    let evidence = vec![
        Evidence::new("root_mmu role before", format!("{:#x}", before.role), "kvm_init_mmu"),
        Evidence::new("root_mmu role after", format!("{:#x}", after.role), &*decision.observed_by),
    ];
    Some(if before.role == after.role && before.root_level == after.root_level {
        RULE.says(Verdict::Ok, "L2 runs: the root MMU is left as it was", evidence)
    } else {
        let message = "the root MMU was changed, although L2 runs on nested TDP";
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
