//! EPT101 maxphyaddr: the guest's MAXPHYADDR as KVM uses it is what the guest's CPUID says.
//!
//! What it judges
//!   vcpu->arch.maxphyaddr, at every root-level decision.
//!
//! Why it matters
//!   The root level, the reserved bits of guest page tables and the largest GPA all follow from
//!   it. When it is stale or was computed from other entries than the guest sees, KVM and guest
//!   disagree on which addresses exist.
//!
//! Evidence
//!   The vCPU's own CPUID entries, as KVM stores them, run through cpuid_query_maxphyaddr: EAX
//!   bits 7:0 of leaf 0x80000008, if leaf 0x80000000 says that it exists, else 36. KVM does not
//!   clamp the value. The same on all kernels from 4.14 to 7.3.
//!
//! What to do
//!   Compare the two values in the finding. If KVM holds the older one, the CPUID was changed
//!   without kvm_vcpu_after_set_cpuid; look at what changed it.

use ept_trace_common::decision::query_maxphyaddr;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT101", name: "maxphyaddr", source: include_str!("ept101.rs"), judge };

fn judge(event: &Event, _known: &Known) -> Option<Judgement> {
    let EventKind::Decision(decision) = &event.kind else { return None };
    let Some(actual) = decision.maxphyaddr else {
        let missing = "vcpu->arch.maxphyaddr could not be read";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let Some(cpuid) = decision.cpuid else {
        let missing = "the vCPU's CPUID entries could not be read";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let expected = u32::from(query_maxphyaddr(cpuid.max_leaf, cpuid.address_sizes));
    let leaf = |value: Option<u32>| value.map_or("absent".to_owned(), |eax| format!("{eax:#x}"));
    let evidence = vec![
        Evidence::new("arch.maxphyaddr", actual, &*decision.observed_by),
        Evidence::new("cpuid_query_maxphyaddr", expected, "replayed"),
        Evidence::new("CPUID 0x80000000 EAX", leaf(cpuid.max_leaf), "arch.cpuid_entries"),
        Evidence::new("CPUID 0x80000008 EAX", leaf(cpuid.address_sizes), "arch.cpuid_entries"),
    ];
    Some(if actual == expected {
        RULE.says(Verdict::Ok, format!("MAXPHYADDR {actual}, as the CPUID entries say"), evidence)
    } else {
        let message =
            format!("KVM uses MAXPHYADDR {actual}, the vCPU's CPUID entries say {expected}");
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
