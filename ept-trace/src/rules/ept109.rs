//! EPT109 mixed-levels: the TDP roots of one VM that are in use together have one level.
//!
//! What it judges
//!   The level of a vCPU's root when it is handed to the hardware, against that of the VM's other
//!   vCPUs that have run. Roots of L2 follow L1, and are not compared. Where the vCPUs' MAXPHYADDR
//!   is the same it is a mismatch; where userspace gave them different ones, each level is right by
//!   itself, and it is an advisory.
//!
//! Why it matters
//!   A GPA above 48 bits is there for one vCPU and not for the other. KVM does not support vCPUs
//!   of different MAXPHYADDR in one VM: it is not tracked in kvm_mmu_page_role, so that shadow pages
//!   are shared between them without regard to it (63f5a1909f9e).
//!
//! Evidence
//!   The level argument of vmx_load_mmu_pgd or svm_load_mmu_pgd for each vCPU, and
//!   arch.maxphyaddr at that moment. A vCPU whose MMU was set up since is left out until it runs
//!   again. With --mismatches what is right is dropped in the kernel, so nothing is compared.
//!
//! What to do
//!   Give all vCPUs of the VM the same CPUID leaf 0x80000008, before the first of them runs.

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::{Known, Loaded};

pub(super) const RULE: Rule =
    Rule { id: "EPT109", name: "mixed-levels", source: include_str!("ept109.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Load(load) = &event.kind else { return None };
    if load.nested || !load.is_tdp() {
        return None;
    }
    let mut others = known
        .vcpus()
        .others(load.vm, load.vcpu)
        .filter_map(|(id, seen)| Some((id, seen.loaded?)))
        .peekable();
    // Alone, there is nothing to compare with.
    others.peek()?;
    let own = Loaded { maxphyaddr: load.maxphyaddr, level: load.level };
    let is_same_width =
        |other: &Loaded| own.maxphyaddr.is_some() && own.maxphyaddr == other.maxphyaddr;
    // The one that is a mismatch, if there is one.
    let differing = others.filter(|(_, other)| other.level != own.level);
    let Some((id, other)) = differing.max_by_key(|(_, other)| is_same_width(other)) else {
        let message = format!("all roots in use have level {}", own.level);
        return Some(RULE.says(Verdict::Ok, message, vec![]));
    };
    let bits =
        |loaded: Loaded| loaded.maxphyaddr.map_or("unknown".to_owned(), |bits| bits.to_string());
    let evidence = vec![
        Evidence::new("level", own.level, &*load.observed_by),
        Evidence::new("MAXPHYADDR", bits(own), "vcpu->arch.maxphyaddr"),
        Evidence::new(&format!("level of vCPU {id}"), other.level, "when it was last loaded"),
        Evidence::new(&format!("MAXPHYADDR of vCPU {id}"), bits(other), "at that moment"),
    ];
    let message = format!(
        "vCPU {} has a root of level {} and MAXPHYADDR {}, vCPU {id} of the same VM level {} and \
         MAXPHYADDR {}",
        load.vcpu,
        own.level,
        bits(own),
        other.level,
        bits(other),
    );
    let verdict = if is_same_width(&other) { Verdict::Mismatch } else { Verdict::Advisory };
    Some(RULE.says(verdict, message, evidence))
}
