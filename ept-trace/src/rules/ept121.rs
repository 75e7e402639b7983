//! EPT121 fault-loop: a fault that KVM has resolved does not come back unchanged.
//!
//! What it judges
//!   The same GPA with the same error code, hundreds of times in a row on one vCPU and within a
//!   second, each answered alike by kvm_tdp_page_fault. RET_PF_SPURIOUS, there is a translation
//!   already, is a mismatch; so is RET_PF_FIXED, there is one now, for a GPA beyond what the root
//!   maps. Within it RET_PF_FIXED is an advisory: the host may be taking the page away each time, as
//!   a test of dirty logging does. Faults of L2 on tables of L1 are answered elsewhere, and not seen.
//!
//! Why it matters
//!   The vCPU makes no progress, at full load, and nothing is logged. Wrong root levels show like
//!   this: KVM maps the page in its table, and the hardware does not get there.
//!
//! Evidence
//!   Arguments of kvm_mmu_page_fault and the return of kvm_tdp_page_fault, counted in the kernel.
//!   What the answers are called is read from the enumeration in BTF. MMIO is answered otherwise.
//!
//! What to do
//!   If the GPA has bits above those that the root maps, see EPT120. Else compare the EPTP with
//!   the root (EPT201 to EPT204), and the root level with the decision (EPT103, EPT108).

use super::Rule;
use crate::model::{Event, EventKind, Evidence, FaultLoop, Judgement, Vendor, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT121", name: "fault-loop", source: include_str!("ept121.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::FaultLoop(faults) = &event.kind else { return None };
    let facts = known.facts()?;
    if !matches!(facts.vendor, Vendor::Vmx | Vendor::Svm) {
        return None;
    }
    let Some(ret_pf) = facts.behaviour.ret_pf else {
        let missing =
            "what kvm_tdp_page_fault answers is not known: BTF of kvm has no RET_PF_FIXED";
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let answer = match faults.answer {
        answer if answer == ret_pf.fixed => "RET_PF_FIXED",
        answer if answer == ret_pf.spurious => "RET_PF_SPURIOUS",
        // To retry and to emulate are legal any number of times.
        _ => return None,
    };
    let FaultLoop { gpa, error_code, count, for_ns, mmu_level, .. } = *faults;
    let reach = mmu_level.and_then(reach);
    let mut evidence = vec![
        Evidence::new("GPA", format!("{gpa:#x}"), "kvm_mmu_page_fault"),
        Evidence::new("error code", format!("{error_code:#x}"), "kvm_mmu_page_fault"),
        Evidence::new("answer", answer, "kvm_tdp_page_fault"),
        Evidence::new("faults in a row", count, "counted in the kernel"),
    ];
    if let (Some(level), Some(bits)) = (mmu_level, reach) {
        evidence.push(Evidence::new("root level", level, "arch.mmu"));
        evidence.push(Evidence::new("bits that the root maps", bits, "replayed"));
    }
    let milliseconds = for_ns / 1_000_000;
    let beyond = reach.filter(|bits| gpa >> bits != 0);
    let why = beyond
        .map_or_else(String::new, |bits| format!(": a root that maps {bits} bits cannot reach it"));
    let message = format!(
        "GPA {gpa:#x} faulted {count} times in a row within {milliseconds} ms, each answered \
         {answer}{why}"
    );
    let is_proof = answer == "RET_PF_SPURIOUS" || beyond.is_some();
    let verdict = if is_proof { Verdict::Mismatch } else { Verdict::Advisory };
    Some(RULE.says(verdict, message, evidence))
}

/// Bits of guest-physical address that a root maps: 12 of the page and 9 for each level.
fn reach(level: u8) -> Option<u32> {
    (4..=5).contains(&level).then(|| 12 + 9 * u32::from(level))
}
