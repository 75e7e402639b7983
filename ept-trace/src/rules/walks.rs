//! What the rules about walks have in common.

use crate::ept::{Step, Translation};
use crate::model::{Event, EventKind, Evidence, RetPf, Walk};
use crate::oracle::{End, Known, Translated};

/// A walk with what the hardware makes of it, if it can be told: EPT301 says where it cannot.
pub(super) fn translated<'a>(
    event: &'a Event,
    known: &'a Known,
) -> Option<(&'a Walk, &'a Translated)> {
    let EventKind::Walk(walk) = &event.kind else { return None };
    Some((walk, known.translated()?.as_ref().ok()?))
}

/// The address that a walk leads to.
pub(super) fn mapped(translated: &Translated) -> Option<&Translation> {
    match &translated.end {
        End::Mapped(translation) => Some(translation),
        _ => None,
    }
}

/// Whether a log has the entries, as KVM printed them: neither root nor access is known.
pub(super) fn is_printed(walk: &Walk) -> bool {
    walk.root_hpa.is_none()
}

/// The address, the access, and every entry that was used.
pub(super) fn evidence(walk: &Walk, translated: &Translated) -> Vec<Evidence> {
    let gpa = |from: &str| Evidence::new("GPA", format!("{:#x}", walk.gpa), from);
    let (mut evidence, read) = if is_printed(walk) {
        let printed = format!("printed by {}", walk.observed_by);
        (vec![gpa(&printed)], printed)
    } else {
        let code = format!("{:#x}", walk.error_code);
        let code = Evidence::new("error code", code, "kvm_mmu_page_fault");
        let read = "read at the return of kvm_mmu_page_fault".to_owned();
        (vec![gpa("kvm_mmu_page_fault"), code], read)
    };
    let entry = |(number, step): (usize, &Step)| {
        let Step { level, table, index, entry } = *step;
        let what = if number == 0 && is_printed(walk) {
            format!("level {level}, entry {index} of the root")
        } else {
            format!("level {level}, table {table}, entry {index}")
        };
        Evidence::new(&what, format!("{entry:#x}"), read.as_str())
    };
    evidence.extend(translated.trail.iter().enumerate().map(entry));
    evidence.push(Evidence::new("walk", translated.end, "replayed"));
    evidence
}

/// What others did to the tables meanwhile, or may have done unseen.
pub(super) fn race(walk: &Walk, known: &Known) -> Option<String> {
    if let Some(race) = walk.races.first() {
        return Some(race.what().to_owned());
    }
    // All tables of a VM are thrown away at once by this bit of their roots.
    let bit = known.facts().and_then(|facts| facts.behaviour.invalid_bit);
    let invalid = bit.and_then(|bit| 1_u32.checked_shl(bit.into())).unwrap_or(0);
    if walk.roles.first().is_some_and(|role| role & invalid != 0) {
        return Some("the root was being thrown away (invalid)".to_owned());
    }
    // smm of the role, whose memslots are others than those that are looked at.
    if walk.roles.first().is_some_and(|role| role >> 24 & 0xff != 0) {
        return Some(
            "it is of system-management mode, whose memslots are not looked at".to_owned(),
        );
    }
    let unseen = walk.unseen_races.first()?;
    Some(format!("whether {} is not seen on this kernel", unseen.what()))
}

/// What `kvm_tdp_page_fault` answered, if it is that the fault is resolved.
pub(super) fn resolved(walk: &Walk, known: &Known) -> Option<&'static str> {
    let RetPf { fixed, spurious } = known.facts()?.behaviour.ret_pf?;
    match walk.answer? {
        answer if answer == fixed => Some("RET_PF_FIXED"),
        answer if answer == spurious => Some("RET_PF_SPURIOUS"),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::model::{
        Behaviour, Fact, Hardware, KernelFacts, KvmState, Requested, Vendor, Verdict,
    };
    use crate::rules::Rule;

    /// RWX, write-back, IPAT, A, D, MMU-present, host- and MMU-writable: as 6.12 makes it.
    pub const LEAF: u64 = 0x8600_0000_0000_0f77;
    /// A table: RWX, A, MMU-present.
    const TABLE: u64 = 0x8000_0000_0000_0907;

    fn facts() -> KernelFacts {
        KernelFacts {
            release: "test".to_owned(),
            vendor: Vendor::Vmx,
            behaviour: Behaviour {
                has_max_tdp_level: true,
                has_tdp_root_level: true,
                ret_pf: Some(RetPf { fixed: 5, spurious: 6 }),
                ..Behaviour::default()
            },
            hardware: Hardware {
                ept_vpid_cap: Fact::known(0xf01_0633_4141, "test"),
                maxphyaddr: Fact::known(46, "test"),
                ..Hardware::default()
            },
            kvm: KvmState {
                enable_ept_ad_bits: Fact::known(true, "test"),
                shadow_mmio_value: Fact::known(6, "test"),
                shadow_mmio_mask: Fact::known(1 << 63 | 7, "test"),
                shadow_mmu_writable_mask: Fact::known(1 << 58, "test"),
                nx_huge_pages: Fact::known(false, "test"),
                tdp_mmu: Fact::known(true, "test"),
                ..KvmState::default()
            },
        }
    }

    /// A write that KVM has resolved to frame 0x12345.
    pub fn healthy() -> Walk {
        let gpa = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12;
        Walk {
            vm: 1,
            gpa,
            error_code: 2,
            answer: Some(5),
            result: 1,
            requested: Some(Requested { gfn: gpa >> 12, pfn: 0x12345, level: 1 }),
            root_hpa: Some(0x1000),
            root_level: Some(4),
            ad_disabled: Some(false),
            entries: vec![0x2000 | TABLE, 0x3000 | TABLE, 0x4000 | TABLE, 0x1234_5000 | LEAF],
            roles: vec![0x1a4, 0x1a3, 0x1a2, 0x1a1],
            slot_flags: Some(0),
            noncoherent_dma: Some(0),
            notifier_seq: Some(1),
            slots_generation: Some(1),
            ..Walk::default()
        }
    }

    /// What a rule says of a healthy walk after a change, with facts changed as well.
    pub fn judge(rule: &Rule, change: impl FnOnce(&mut Walk, &mut KernelFacts)) -> Option<Verdict> {
        let (mut walk, mut facts) = (healthy(), facts());
        change(&mut walk, &mut facts);
        let mut known = Known::default();
        known.learn(&EventKind::Facts(Box::new(facts)));
        let event = Event { time_ns: 0, kind: EventKind::Walk(Box::new(walk)) };
        known.learn(&event.kind);
        (rule.judge)(&event, &known).map(|judgement| judgement.verdict)
    }

    /// The same, of a walk that comes after a healthy one.
    pub fn judge_second(rule: &Rule, change: impl FnOnce(&mut Walk)) -> Option<Verdict> {
        let mut known = Known::default();
        known.learn(&EventKind::Facts(Box::new(facts())));
        known.note(&EventKind::Walk(Box::new(healthy())));
        let mut walk = Walk { requested: None, ..healthy() };
        change(&mut walk);
        let event = Event { time_ns: 0, kind: EventKind::Walk(Box::new(walk)) };
        known.learn(&event.kind);
        (rule.judge)(&event, &known).map(|judgement| judgement.verdict)
    }
}
