//! EPT201 eptp-valid: the EPT pointer is one that VM entry accepts.
//!
//! What it judges
//!   The EPTP that is written to the VMCS, on VMX.
//!
//! Why it matters
//!   With an invalid EPTP every VM entry fails (VM-instruction error 7), and the vCPU never runs.
//!
//! Evidence
//!   SDM Vol. 3C §27.2.1.1: a memory type that the capability has (bits 2:0: 0 with bit 8, 6 with
//!   bit 14), a walk length that it has (bits 5:3: 3 with bit 6, 4 with bit 7), accessed and dirty
//!   flags only where they exist (bit 6 with bit 21), supervisor shadow-stack control only where it
//!   exists (bit 7 with bit 23), nothing in bits 11:8 and above the host's MAXPHYADDR. The
//!   capability is MSR 0x48c, else KVM's own copy.
//!
//! What to do
//!   The finding names each bit. Compare the EPTP with its root (EPT202, EPT203), and the
//!   capability with the MSR (EPT106).

use ept_trace_common::eptp::{ACCESSED_DIRTY, MEMORY_TYPE_WB, walk_length};

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

/// Bits 11:8.
const RESERVED: u64 = 0xf00;
/// Supervisor shadow-stack control.
const SHADOW_STACK: u64 = 1 << 7;

pub(super) const RULE: Rule =
    Rule { id: "EPT201", name: "eptp-valid", source: include_str!("ept201.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Load(load) = &event.kind else { return None };
    let eptp = load.eptp?;
    let capability = known.capability();
    let width = known.host_maxphyaddr();
    let mut evidence = vec![Evidence::new("EPTP", format!("{eptp:#x}"), &*load.observed_by)];
    if let Some(bits) = capability.value() {
        evidence.push(Evidence::new("EPT capability", format!("{bits:#x}"), capability.origin()));
    }
    if let Some(bits) = width.value() {
        evidence.push(Evidence::new("MAXPHYADDR of the host", bits, width.origin()));
    }
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(reserved(eptp, width.value()));
    wrong.extend(capability.value().and_then(|bits| not_offered(eptp, bits)));
    if !wrong.is_empty() {
        let message = format!("EPTP {eptp:#x} is invalid: {}", wrong.join(", "));
        return Some(RULE.says(Verdict::Mismatch, message, evidence));
    }
    Some(if capability.value().is_none() {
        let missing = format!("the EPT capability: {}", capability.origin());
        RULE.says(Verdict::Undetermined, missing, evidence)
    } else if width.value().is_none() {
        let missing = format!("MAXPHYADDR of the host: {}", width.origin());
        RULE.says(Verdict::Undetermined, missing, evidence)
    } else {
        RULE.says(Verdict::Ok, format!("VM entry accepts EPTP {eptp:#x}"), evidence)
    })
}

/// What is reserved on any CPU of this width.
fn reserved(eptp: u64, width: Option<u8>) -> Option<String> {
    let above = width.map_or(0, |bits| u64::MAX.checked_shl(bits.into()).unwrap_or(0));
    let set = eptp & (RESERVED | above);
    (set != 0).then(|| format!("reserved bits {set:#x} are set"))
}

/// What this CPU does not offer.
fn not_offered(eptp: u64, capability: u64) -> Option<String> {
    let has = |bit: u8| capability & (1 << bit) != 0;
    let memory_type = eptp & 7;
    let is_type_known = match memory_type {
        0 => has(8),
        MEMORY_TYPE_WB => has(14),
        _ => false,
    };
    let is_length_known = match walk_length(eptp) {
        4 => has(6),
        5 => has(7),
        _ => false,
    };
    let mut wrong = Vec::new();
    if !is_type_known {
        wrong.push(format!("memory type {memory_type} is not offered"));
    }
    if !is_length_known {
        wrong.push(format!("a walk of {} levels is not offered", walk_length(eptp)));
    }
    if eptp & ACCESSED_DIRTY != 0 && !has(21) {
        wrong.push("accessed and dirty flags are not offered".to_owned());
    }
    if eptp & SHADOW_STACK != 0 && !has(23) {
        wrong.push("supervisor shadow-stack control is not offered".to_owned());
    }
    (!wrong.is_empty()).then(|| wrong.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks of 4 levels, write-back, accessed and dirty flags.
    const CAPABILITY: u64 = 1 << 6 | 1 << 14 | 1 << 21;

    #[test]
    fn each_field_counts() {
        assert_eq!(not_offered(0x5e, CAPABILITY), None);
        for (eptp, capability) in [
            (0x58, CAPABILITY),
            (0x5a, CAPABILITY),
            (0x66, CAPABILITY),
            (0x56, CAPABILITY),
            (0x5e, CAPABILITY & !(1 << 21)),
            (0x5e, CAPABILITY & !(1 << 14)),
            (0x5e, CAPABILITY & !(1 << 6)),
            (0xde, CAPABILITY),
        ] {
            assert!(not_offered(eptp, capability).is_some(), "{eptp:#x} {capability:#x}");
        }
        assert_eq!(not_offered(0x66, CAPABILITY | 1 << 7), None);
        assert_eq!(not_offered(0x58, CAPABILITY | 1 << 8), None);
        assert_eq!(not_offered(0xde, CAPABILITY | 1 << 23), None);
    }

    #[test]
    fn bits_above_the_width_are_reserved() {
        assert_eq!(reserved(0xf_ffff_f05e, Some(40)), None);
        assert!(reserved(1 << 40, Some(40)).is_some());
        assert!(reserved(1 << 11, Some(52)).is_some());
        assert_eq!(reserved(1 << 40, None), None, "not known is not reserved");
        assert_eq!(reserved(1 << 63, Some(64)), None);
    }
}
