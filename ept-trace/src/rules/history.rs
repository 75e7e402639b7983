//! What the rules about changes of entries have in common.

use std::borrow::Cow;

use super::{Rule, ept401, ept402, ept404};
use crate::model::{Event, EventKind, Evidence, Judgement, SpteChange, Verdict};
use crate::oracle::{Fault, Finding, Known};

/// What the rules about history say of a change that fits, which nearly all do.
pub(super) static FITS: [Judgement; 3] =
    [fitting(&ept401::RULE), fitting(&ept402::RULE), fitting(&ept404::RULE)];

const fn fitting(rule: &Rule) -> Judgement {
    Judgement {
        rule: rule.id,
        verdict: Verdict::Ok,
        message: Cow::Borrowed("the change fits to those before it"),
        evidence: Vec::new(),
        known: None,
    }
}

/// Whether the change that is being judged fits, and nothing is wrong with those before it.
pub(super) fn fits(known: &Known) -> bool {
    let history = known.history();
    history.fits() == Some(true) && history.findings().is_empty() && history.unexplained().is_none()
}

/// What a rule says of the history at a moment: what is certain by now, else whether the change fits.
pub(super) fn judge(
    rule: &Rule,
    event: &Event,
    known: &Known,
    (is_of_rule, words): (impl Fn(Fault) -> bool, fn(&Finding) -> String),
) -> Option<Judgement> {
    let mut found = known.history().findings().iter().filter(|found| is_of_rule(found.fault));
    if let Some(first) = found.next() {
        let others = match found.count() {
            0 => String::new(),
            others => format!("; and {others} more"),
        };
        let message = format!("{}: {}{others}", place(&first.change), words(first));
        return Some(rule.says(Verdict::Mismatch, message, evidence(first)));
    }
    if let Some(first) = known.history().unexplained().filter(|found| is_of_rule(found.fault)) {
        let message = format!(
            "{}: {}; or not everything is in the log, which is not judged from here on: if it is of \
             all threads, say so by --whole",
            place(&first.change),
            words(first)
        );
        return Some(rule.says(Verdict::Undetermined, message, evidence(first)));
    }
    let EventKind::SpteChange(_) = event.kind else { return None };
    let fits = known.history().fits()?;
    fits.then(|| fitting(rule))
}

/// Where a change was made.
pub(super) fn place(change: &SpteChange) -> String {
    let whose = change.vm.map(|vm| format!("VM {vm}, ")).unwrap_or_default();
    format!("{whose}gfn {:#x}, level {}", change.gfn, change.level)
}

fn evidence(found: &Finding) -> Vec<Evidence> {
    let Finding { change, time_ns, left, .. } = found;
    let from = &*change.observed_by;
    let clock = if change.in_log.is_some() { "clock of the log" } else { "CLOCK_MONOTONIC" };
    let mut evidence = vec![Evidence::new("time", format!("{time_ns} ns"), clock)];
    evidence.extend(change.old.map(|old| Evidence::new("old_spte", format!("{old:#x}"), from)));
    evidence.push(Evidence::new("new_spte", format!("{:#x}", change.new), from));
    let left: Vec<_> = left.iter().map(|address| format!("{address:#x}")).collect();
    let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
    evidence.push(Evidence::new("left there before", left, "the changes before it"));
    evidence
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::model::{Behaviour, Fact, Hardware, KernelFacts, KvmState, Vendor};

    const EMPTY: u64 = 1 << 63;
    /// What 6.12 adds to an address: for a table, and for a page.
    const TABLE: u64 = 0x827;
    const PAGE: u64 = 0xe67;

    fn change(level: u8, gfn: u64, old: u64, new: u64) -> EventKind {
        EventKind::SpteChange(SpteChange {
            vm: Some(1),
            from_start: true,
            as_id: Some(0),
            gfn,
            level,
            old: Some(old),
            new,
            ..SpteChange::default()
        })
    }

    /// A VM of two pages, from the first table to the last, as 6.12 made it in the lab.
    pub fn healthy() -> Vec<EventKind> {
        vec![
            change(5, 0, EMPTY, 0x534_9000 | TABLE),
            change(4, 0, EMPTY, 0x534_8000 | TABLE),
            change(3, 0, EMPTY, 0x534_7000 | TABLE),
            change(2, 0, EMPTY, 0x534_6000 | TABLE),
            change(1, 1, EMPTY, 0x450_b000 | PAGE),
            change(1, 2, EMPTY, 0x450_c000 | PAGE),
            change(1, 1, 0x450_b000 | PAGE | 1 << 6, EMPTY),
            change(1, 1, EMPTY, 0x450_d000 | PAGE),
            change(1, 1, 0x450_d000 | PAGE, EMPTY),
            change(1, 2, 0x450_c000 | PAGE, EMPTY),
            change(2, 0, 0x534_6000 | TABLE, EMPTY),
            change(3, 0, 0x534_7000 | TABLE, EMPTY),
            change(5, 0, 0x534_9000 | TABLE, EMPTY),
            change(4, 0, 0x534_8000 | TABLE, EMPTY | 0x5a0),
            EventKind::VmGone { vm: 1 },
            EventKind::End,
        ]
    }

    /// The worst that a rule says of the changes, once they were edited.
    pub fn judge(rule: &Rule, edit: impl FnOnce(&mut Vec<EventKind>)) -> Option<Verdict> {
        let mut kinds = healthy();
        edit(&mut kinds);
        let mut worst = None;
        follow(kinds, |event, known| {
            worst = worst.max((rule.judge)(event, known).map(|judgement| judgement.verdict));
        });
        worst
    }

    /// Each of the changes, with what is known at it.
    pub fn follow(kinds: Vec<EventKind>, mut each: impl FnMut(&Event, &Known)) {
        let kvm = KvmState {
            shadow_mmu_writable_mask: Fact::known(1 << 58, "test"),
            ..KvmState::default()
        };
        let facts = KernelFacts {
            release: String::new(),
            vendor: Vendor::Svm,
            behaviour: Behaviour::default(),
            hardware: Hardware::default(),
            kvm,
        };
        let mut known = Known::default();
        known.learn(&EventKind::Facts(Box::new(facts)));
        for (kind, time_ns) in kinds.into_iter().zip(1..) {
            let event = Event { time_ns, kind };
            known.learn(&event.kind);
            known.follow(&event);
            each(&event, &known);
        }
    }
}
