//! EPT203 eptp-root: the hardware starts to walk at the root that the MMU has.
//!
//! What it judges
//!   The address in the EPTP, against the root_hpa that vmx_load_mmu_pgd was called with, and
//!   both against root.hpa of the MMU in use. On SVM, the argument of svm_load_mmu_pgd, which
//!   becomes nCR3, against the MMU.
//!
//! Why it matters
//!   With another root the guest runs on another table: one that was freed, that of L1 in the
//!   place of that of L2, or no table at all.
//!
//! Evidence
//!   What is written to the VMCS without its bits 11:0, the argument, and root.hpa (root_hpa before
//!   5.18) of arch.mmu at that moment.
//!
//! What to do
//!   Look at what changed root.hpa between kvm_mmu_load and VM entry, or at what construct_eptp
//!   adds to the address.

use ept_trace_common::eptp::ADDRESS;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT203", name: "eptp-root", source: include_str!("ept203.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Load(load) = &event.kind else { return None };
    if !load.is_tdp() {
        return None;
    }
    // Bits above the host's MAXPHYADDR are for EPT201.
    let width = known.host_maxphyaddr().value().unwrap_or(52);
    let address = ADDRESS & !u64::MAX.checked_shl(width.into()).unwrap_or(0);
    let places = [
        ("address in the EPTP", load.eptp.map(|eptp| eptp & address), "EPT_POINTER"),
        ("root_hpa", Some(load.root_hpa), "argument of load_mmu_pgd"),
        ("root.hpa", load.mmu_root_hpa, "arch.mmu"),
    ];
    let known = places.into_iter().filter_map(|(what, place, from)| Some((what, place?, from)));
    let known: Vec<_> = known.collect();
    let evidence = known
        .iter()
        .map(|(what, place, from)| Evidence::new(what, format!("{place:#x}"), *from))
        .collect();
    let (_, first, _) = known.first()?;
    if known.iter().all(|(_, place, _)| place == first) {
        let message = format!("the root is at {first:#x} wherever one looks");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    let told: Vec<_> = known.iter().map(|(what, at, _)| format!("{what} {at:#x}")).collect();
    Some(RULE.says(Verdict::Mismatch, told.join(", "), evidence))
}
