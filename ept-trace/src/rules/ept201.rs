//! EPT201 eptp-valid: the EPT pointer is one that VM entry accepts.
//!
//! What it judges
//!   The EPTP that is written to the VMCS, on VMX, and the one of a VMCS that the kernel has printed
//!   into a log.
//!
//! Why it matters
//!   With an invalid EPTP every VM entry fails (VM-instruction error 7), and the vCPU never runs.
//!
//! Evidence
//!   SDM Vol. 3C §27.2.1.1: a memory type that the capability has (bits 2:0: 0 with bit 8, 6 with
//!   bit 14), a walk length that it has (bits 5:3: 3 with bit 6, 4 with bit 7), accessed and dirty
//!   flags only where they exist (bit 6 with bit 21), supervisor shadow-stack control only where it
//!   exists (bit 7 with bit 23), nothing in bits 11:8 and above the host's MAXPHYADDR. The
//!   capability is MSR 0x48c, else KVM's own copy; what no CPU has is wrong without it. An exit reason
//!   with bit 31 is that of an entry that has passed these checks and failed by another (§27.3).
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
    let (eptp, from) = match &event.kind {
        EventKind::Load(load) => (load.eptp?, load.observed_by.as_str()),
        EventKind::VmcsDump(dump) => (dump.eptp?, "dump_vmcs"),
        _ => return None,
    };
    let capability = known.capability();
    let width = known.host_maxphyaddr();
    let mut evidence = vec![Evidence::new("EPTP", format!("{eptp:#x}"), from)];
    let failed = failed_entry(&event.kind);
    if let Some(reason) = failed {
        evidence.push(Evidence::new("exit reason", format!("{reason:#x}"), from));
    }
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
    Some(if known.facts().is_none() {
        let missing = "the EPT capability and MAXPHYADDR of the host (--kernel-facts FILE; the \
                       capability alone, --ept-cap HEX)";
        RULE.says(Verdict::Undetermined, missing, evidence)
    } else if capability.value().is_none() {
        let missing = format!("the EPT capability: {}", capability.origin());
        RULE.says(Verdict::Undetermined, missing, evidence)
    } else if width.value().is_none() {
        let missing = format!("MAXPHYADDR of the host: {}", width.origin());
        RULE.says(Verdict::Undetermined, missing, evidence)
    } else {
        let why = failed.map_or("", |_| ", so the entry that failed has failed by something else");
        RULE.says(Verdict::Ok, format!("VM entry accepts EPTP {eptp:#x}{why}"), evidence)
    })
}

/// The exit reason of a VM entry that has failed.
fn failed_entry(event: &EventKind) -> Option<u32> {
    const FAILED: u32 = 1 << 31;
    let EventKind::VmcsDump(dump) = event else { return None };
    dump.exit_reason.filter(|reason| reason & FAILED != 0)
}

/// What is wrong as far as this is known: of a CPU that is not, only what none offers.
fn wrong(eptp: u64, capability: Option<u64>, width: Option<u8>) -> InvalidPointer {
    const EVERYTHING: u64 = u64::MAX;
    let capability = EptCapability(capability.unwrap_or(EVERYTHING));
    InvalidPointer::reserved(eptp, width) | InvalidPointer::not_offered(eptp, capability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Behaviour, Fact, Hardware, KernelFacts, KvmState, Vendor, VmcsDump};

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
    fn without_the_capability_only_what_no_cpu_has_is_wrong() {
        for eptp in [0x5e, 0x58, 0x66, 0xde, 0xf_ffff_ffff_f01e] {
            assert!(wrong(eptp, None, None).is_empty(), "{eptp:#x}");
        }
        assert_eq!(wrong(0x5a, None, None), InvalidPointer::MEMTYPE);
        assert_eq!(wrong(0x56, None, None), InvalidPointer::WALK_LENGTH);
        assert_eq!(wrong(0x15e, None, None), InvalidPointer::RESERVED_LOW);
    }

    /// What is said of a VMCS that was printed, with or without facts of the machine.
    fn printed(
        eptp: Option<u64>,
        exit_reason: u32,
        facts: Option<KernelFacts>,
    ) -> Option<Judgement> {
        let mut known = Known::default();
        if let Some(facts) = facts {
            known.learn(&EventKind::Facts(Box::new(facts)));
        }
        let dump = VmcsDump { eptp, exit_reason: Some(exit_reason), ..VmcsDump::default() };
        judge(&Event { time_ns: 0, kind: EventKind::VmcsDump(dump) }, &known)
    }

    fn facts(capability: Fact<u64>, maxphyaddr: Fact<u8>) -> KernelFacts {
        let ept_vpid_cap = capability;
        KernelFacts {
            release: "test".to_owned(),
            vendor: Vendor::Vmx,
            behaviour: Behaviour::default(),
            hardware: Hardware { ept_vpid_cap, maxphyaddr, ..Hardware::default() },
            kvm: KvmState::default(),
        }
    }

    #[test]
    fn a_vmcs_that_was_printed_is_judged_as_far_as_the_cpu_is_known() {
        let whole = || Some(facts(Fact::known(CAPABILITY, "test"), Fact::known(46, "test")));
        let verdict = |eptp, facts| printed(Some(eptp), 0x30, facts).unwrap().verdict;
        assert_eq!(verdict(0x1_1c4f_505e, whole()), Verdict::Ok);
        assert_eq!(verdict(0x1_1c4f_515e, whole()), Verdict::Mismatch);
        assert_eq!(verdict(0x1_1c4f_5066, whole()), Verdict::Mismatch, "5 levels");
        assert_eq!(verdict(1 << 47 | 0x5e, whole()), Verdict::Mismatch, "46 bits");
        // Without the width; without the capability; without either.
        let capability = Some(facts(Fact::known(CAPABILITY, "test"), Fact::default()));
        assert_eq!(verdict(0x5e, capability.clone()), Verdict::Undetermined);
        assert_eq!(verdict(0x66, capability), Verdict::Mismatch);
        let width = Some(facts(Fact::default(), Fact::known(46, "test")));
        assert_eq!(verdict(0x66, width.clone()), Verdict::Undetermined);
        assert_eq!(verdict(1 << 47 | 0x5e, width), Verdict::Mismatch);
        assert_eq!(verdict(0x5e, None), Verdict::Undetermined);
        assert_eq!(verdict(0x15e, None), Verdict::Mismatch);
        let missing = printed(Some(0x5e), 0x30, None).unwrap().message;
        assert!(missing.contains("--kernel-facts") && missing.contains("--ept-cap"), "{missing}");
        assert_eq!(printed(None, 0x30, whole()), None, "EPT is off");
    }

    #[test]
    fn an_entry_that_failed_with_a_valid_pointer_has_failed_by_something_else() {
        let whole = || Some(facts(Fact::known(CAPABILITY, "test"), Fact::known(46, "test")));
        let failed = printed(Some(0x5e), 0x8000_0021, whole()).unwrap();
        assert!(failed.message.ends_with("failed by something else"), "{}", failed.message);
        assert!(failed.evidence.iter().any(|part| part.value == "0x80000021"));
        let exited = printed(Some(0x5e), 0x30, whole()).unwrap();
        assert_eq!(exited.message, "VM entry accepts EPTP 0x5e");
    }
}
