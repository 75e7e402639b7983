//! EPT202 eptp-level: the hardware walks as many levels as the root that it is given has.
//!
//! What it judges
//!   The walk length in the EPTP, bits 5:3 plus one, against the level of the root's own page, of
//!   the MMU that it belongs to, and of the argument of vmx_load_mmu_pgd. On SVM, where nothing
//!   says how deep to walk but the host's own paging, that argument against the page and the MMU.
//!
//! Why it matters
//!   A walk that is one level longer than the table takes entries of the last level for tables;
//!   one that is shorter takes tables for pages. L2 hung on its first instruction that way, where
//!   L1 used 4 levels on hardware with 5 (148d735eb55d).
//!
//! Evidence
//!   What is written to the VMCS, the arguments of vmx_load_mmu_pgd, root_role.level of arch.mmu,
//!   and the role of the kvm_mmu_page that the root is. A dummy root (6.6) maps nothing, and is not
//!   judged.
//!
//! What to do
//!   The value that differs from all others is the wrong one. Before 6.19 construct_eptp went by
//!   the vCPU's state, not by the root (2f723a863423).

use ept_trace_common::eptp::walk_length;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT202", name: "eptp-level", source: include_str!("ept202.rs"), judge };

fn judge(event: &Event, _known: &Known) -> Option<Judgement> {
    let EventKind::Load(load) = &event.kind else { return None };
    if load.is_dummy || !load.is_tdp() {
        return None;
    }
    let levels = [
        ("walk length of the EPTP", load.eptp.map(walk_length), "EPTP bits 5:3"),
        ("level of the root's page", load.page_level(), "its kvm_mmu_page_role"),
        ("level of the MMU", load.mmu_level, "arch.mmu"),
        ("level handed over", Some(load.level), "argument of load_mmu_pgd"),
    ];
    let known = levels.into_iter().filter_map(|(what, level, from)| Some((what, level?, from)));
    let known: Vec<_> = known.collect();
    let mut evidence: Vec<_> =
        known.iter().map(|(what, level, from)| Evidence::new(what, level, *from)).collect();
    evidence.push(Evidence::new("root", format!("{:#x}", load.root_hpa), &*load.observed_by));
    let (_, first, _) = known.first()?;
    if known.iter().all(|(_, level, _)| level == first) {
        let message = format!("the root has {first} levels wherever one looks");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    let told: Vec<_> = known.iter().map(|(what, level, _)| format!("{what} {level}")).collect();
    Some(RULE.says(Verdict::Mismatch, told.join(", "), evidence))
}
