//! EPT120 gpa-reach: the guest's MAXPHYADDR is within what its root maps, or the guest is told.
//!
//! What it judges
//!   MAXPHYADDR and the root level after a decision for TDP. A root of 4 levels maps 48 bits. It
//!   is an advisory: KVM does as it should.
//!
//! Why it matters
//!   A guest with MAXPHYADDR 52 believes that it can use addresses up to 2^52. When firmware puts
//!   RAM or device memory above 2^48, KVM resolves the fault, the hardware does not get there, and
//!   the vCPU faults for ever (seen on Sierra Forest: 52 bits, and EPT of 4 levels).
//!
//! Evidence
//!   EAX of leaf 0x80000008 among the vCPU's CPUID entries: bits 7:0 are MAXPHYADDR, bits 23:16
//!   GuestPhysBits, by which a guest's firmware can tell. KVM_GET_SUPPORTED_CPUID offers them from
//!   6.10 on (b628cb523c65).
//!
//! What to do
//!   Set GuestPhysBits to 48 in the guest's CPUID (QEMU does so from 9.1 on), or give the guest a
//!   MAXPHYADDR of at most 48.

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Mode, Vendor, Verdict};
use crate::oracle::{Known, replay};

/// Bits of guest-physical address that a root of 4 levels maps; SDM Vol. 3C §29.3.2.
const REACH_OF_FOUR: u32 = 48;

pub(super) const RULE: Rule =
    Rule { id: "EPT120", name: "gpa-reach", source: include_str!("ept120.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Decision(decision) = &event.kind else { return None };
    if !matches!(known.vendor(), Vendor::Vmx | Vendor::Svm) {
        return None;
    }
    // Without a replay EPT103 says which fact is missing.
    if replay(&known.replay_inputs(decision)).ok()?.mode != Mode::Tdp {
        return None;
    }
    let (bits, level) = (decision.maxphyaddr?, decision.after.root_level?);
    if !(4..=5).contains(&level) {
        return None;
    }
    let shown = decision.cpuid?.address_sizes.map_or(0, |eax| eax >> 16 & 0xff);
    let evidence = vec![
        Evidence::new("MAXPHYADDR", bits, "vcpu->arch.maxphyaddr"),
        Evidence::new("root level", level, &*decision.observed_by),
        Evidence::new("GuestPhysBits", shown, "CPUID 0x80000008 EAX bits 23:16"),
    ];
    if level == 5 || bits <= REACH_OF_FOUR {
        let message = format!("a root of level {level} maps all of {bits} bits");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    if (1..=REACH_OF_FOUR).contains(&shown) {
        let message = format!("a root of level 4, and the guest is told of {shown} bits");
        return Some(RULE.says(Verdict::Ok, message, evidence));
    }
    let message = format!(
        "MAXPHYADDR is {bits}, a root of level 4 maps {REACH_OF_FOUR} bits, and the guest is not \
         told (GuestPhysBits {shown})"
    );
    Some(RULE.says(Verdict::Advisory, message, evidence))
}
