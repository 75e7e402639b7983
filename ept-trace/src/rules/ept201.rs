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

use super::Rule;
use crate::ept::{EptCapability, InvalidPointer};
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

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
    let wrong = wrong(eptp, capability.value(), width.value());
    if !wrong.is_empty() {
        let what = wrong.describe(eptp, width.value());
        let message = format!("EPTP {eptp:#x} is invalid: {what}");
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

/// What is wrong as far as this is known.
fn wrong(eptp: u64, capability: Option<u64>, width: Option<u8>) -> InvalidPointer {
    let not_offered = capability.map_or(InvalidPointer::empty(), |bits| {
        InvalidPointer::not_offered(eptp, EptCapability(bits))
    });
    InvalidPointer::reserved(eptp, width) | not_offered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks of 4 levels, write-back, accessed and dirty flags.
    const CAPABILITY: u64 = 1 << 6 | 1 << 14 | 1 << 21;

    fn says(eptp: u64, capability: u64) -> String {
        wrong(eptp, Some(capability), Some(46)).describe(eptp, Some(46))
    }

    #[test]
    fn each_field_counts() {
        let memory_type = "memory type 6 is not offered";
        let length = "a walk of 4 levels is not offered";
        let flags = "accessed and dirty flags are not offered";
        let shadow_stack = "supervisor shadow-stack control is not offered";
        for (eptp, capability, expected) in [
            (0x5e, CAPABILITY, ""),
            (0x58, CAPABILITY, "memory type 0 is not offered"),
            (0x5a, CAPABILITY, "memory type 2 is not offered"),
            (0x66, CAPABILITY, "a walk of 5 levels is not offered"),
            (0x56, CAPABILITY, "a walk of 3 levels is not offered"),
            (0x5e, CAPABILITY & !(1 << 21), flags),
            (0x5e, CAPABILITY & !(1 << 14), memory_type),
            (0x5e, CAPABILITY & !(1 << 6), length),
            (0xde, CAPABILITY, shadow_stack),
            (0x66, CAPABILITY | 1 << 7, ""),
            (0x58, CAPABILITY | 1 << 8, ""),
            (0xde, CAPABILITY | 1 << 23, ""),
            (0x95e, CAPABILITY, "reserved bits 0x900 are set"),
        ] {
            assert_eq!(says(eptp, capability), expected, "{eptp:#x} {capability:#x}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        let said = says(1 << 46 | 0xfff, 0);
        for part in ["0x400000000f00", "type 7", "8 levels", "accessed", "shadow-stack"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn bits_above_the_width_are_reserved() {
        let reserved = |eptp, width| InvalidPointer::reserved(eptp, width);
        assert!(reserved(0xf_ffff_f05e, Some(40)).is_empty());
        assert_eq!(reserved(1 << 40, Some(40)), InvalidPointer::ADDRESS_WIDTH);
        assert_eq!(reserved(1 << 11, Some(52)), InvalidPointer::RESERVED_LOW);
        assert!(reserved(1 << 40, None).is_empty(), "not known is not reserved");
        assert!(reserved(1 << 51, Some(52)).is_empty());
        // No address of the architecture is wider than 52 bits, whatever is claimed.
        assert_eq!(reserved(1 << 52, Some(64)), InvalidPointer::ADDRESS_WIDTH);
    }

    #[test]
    fn without_the_capability_only_what_is_reserved_is_wrong() {
        assert!(wrong(0x5a, None, None).is_empty());
        assert_eq!(wrong(0x15a, None, None), InvalidPointer::RESERVED_LOW);
    }
}
