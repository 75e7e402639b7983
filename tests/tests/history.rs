//! Bugs that KVM has had, and some next to them, each rebuilt from what was observed on a kernel
//! without it, and each found and named. No kernel is booted here.

use std::collections::BTreeSet;
use std::path::Path;

use ept_trace::analysis::Judged;
use ept_trace::model::{
    Decision, Event, EventKind, FaultLoop, Load, Nested, RetPf, ShadowMmu, SpteChange, Vendor,
    Verdict,
};
use tests::{Cell, judge, observations};

const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };
const VMX: Cell = Cell { cpu: "vmx", kernel: "6.1" };
const SVM_5_10: Cell = Cell { cpu: "svm", kernel: "5.10" };

fn corpus(cell: Cell) -> Vec<Event> {
    cell.corpus().unwrap_or_else(|err| panic!("{cell:?}: {err:#}"))
}

/// What was observed of an L1 that ran an L2, with tables of 4 and of 5 levels.
fn nested(file: &str) -> Vec<Event> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(file);
    observations(&path).unwrap_or_else(|err| panic!("{err:#}"))
}

/// The rules that find something, and what they call it.
fn found(events: Vec<Event>) -> BTreeSet<(&'static str, Verdict)> {
    let of = |judged: &Judged| {
        let found = judged.judgements.iter().map(|found| (found.rule, found.verdict));
        found.filter(|(_, verdict)| *verdict != Verdict::Ok).collect::<Vec<_>>()
    };
    judge(events).iter().flat_map(of).collect()
}

fn mismatch(rules: &[&'static str]) -> BTreeSet<(&'static str, Verdict)> {
    rules.iter().map(|rule| (*rule, Verdict::Mismatch)).collect()
}

fn loads(events: &mut [Event]) -> impl Iterator<Item = &mut Load> {
    events.iter_mut().filter_map(|event| match &mut event.kind {
        EventKind::Load(load) => Some(&mut **load),
        _ => None,
    })
}

fn decisions(events: &mut [Event]) -> impl Iterator<Item = &mut Decision> {
    events.iter_mut().filter_map(|event| match &mut event.kind {
        EventKind::Decision(decision) => Some(&mut **decision),
        _ => None,
    })
}

fn shadows(events: &mut [Event]) -> impl Iterator<Item = &mut ShadowMmu> {
    events.iter_mut().filter_map(|event| match &mut event.kind {
        EventKind::ShadowMmu(mmu) => Some(&mut **mmu),
        _ => None,
    })
}

/// The changes of the entries of a VM with large pages, one of which is write-protected and split,
/// from its beginning to its end.
fn entries() -> Vec<Event> {
    nested("history-svm-6.12.jsonl")
}

/// Where the TDP MMU sets the entry for this frame, or empties it, for the first time.
fn change(events: &[Event], level: u8, gfn: u64, is_set: bool) -> usize {
    let is = |change: &SpteChange| {
        let is_present = |entry: u64| entry & 1 << 11 != 0;
        (change.level, change.gfn) == (level, gfn)
            && change.old.is_some_and(|old| is_present(old) != is_set)
            && is_present(change.new) == is_set
    };
    let found = events.iter().position(|event| match &event.kind {
        EventKind::SpteChange(change) => is(change),
        _ => false,
    });
    found.expect("such a change")
}

/// The healthy twins of everything below.
#[test]
fn without_the_bugs_nothing_is_found() {
    let files = ["nested-vmx5-6.12.jsonl", "nested-svm-6.12.jsonl", "history-svm-6.12.jsonl"];
    for file in files {
        assert_eq!(found(nested(file)), BTreeSet::new(), "{file}");
    }
    for cell in [VMX5, SVM_5_10] {
        let found = found(corpus(cell));
        assert!(found.iter().all(|(_, verdict)| *verdict != Verdict::Mismatch), "{found:?}");
    }
}

/// 148d735eb55d: L1 has 4 levels, the hardware is told to walk 5, and L2 hangs.
#[test]
fn nested_ept_of_4_levels_under_an_eptp_of_5() {
    let mut events = nested("nested-vmx5-6.12.jsonl");
    let mut changed = 0;
    for load in loads(&mut events).filter(|load| load.nested && load.mmu_level == Some(4)) {
        load.eptp = load.eptp.map(|eptp| eptp & !0x38 | 0x20);
        load.level = 5;
        changed += 1;
    }
    assert!(changed > 0);
    assert_eq!(found(events), mismatch(&["EPT202"]));
}

/// No commit of its own: KVM_SET_CPUID2 without the set-up of the MMU that belongs to it.
#[test]
fn a_level_that_is_stale_after_the_cpuid_has_changed() {
    let mut events = corpus(VMX5);
    // The decisions that the change should have led to were never taken.
    events.retain(|event| match &event.kind {
        EventKind::Decision(decision) => decision.maxphyaddr <= Some(48),
        _ => true,
    });
    let mut changed = 0;
    for load in loads(&mut events).filter(|load| load.maxphyaddr > Some(48)) {
        as_level_4(load);
        changed += 1;
    }
    assert!(changed > 0);
    assert_eq!(found(events), mismatch(&["EPT108"]));
}

/// A root that is consistent in itself, and has 4 levels.
fn as_level_4(load: &mut Load) {
    load.eptp = load.eptp.map(|eptp| eptp & !0x38 | 0x18);
    load.level = 4;
    load.mmu_level = Some(4);
    load.page_role = load.page_role.map(|role| role & !0xf | 4);
}

/// de3ccd26fafc: MAXPHYADDR changed, and the role was thought to be the same. 49c6f8756cdf makes
/// that impossible for whatever else hangs on the CPUID.
#[test]
fn a_role_that_is_kept_although_maxphyaddr_has_changed() {
    let mut events = corpus(VMX5);
    let mut last = None;
    for decision in decisions(&mut events) {
        if decision.maxphyaddr > Some(48)
            && let Some(last) = last
        {
            decision.after = last;
        }
        decision.before = last.or(decision.before);
        last = Some(decision.after);
    }
    for load in loads(&mut events) {
        as_level_4(load);
    }
    assert_eq!(found(events), mismatch(&["EPT103", "EPT108"]));
}

/// feb627e8d6f6: userspace gives the vCPUs of one VM different CPUIDs, or changes one that has
/// run, and roots of both levels are in use together.
#[test]
fn roots_of_both_levels_in_one_vm() {
    let mut events = corpus(VMX5);
    let mut of_level = |level| {
        let load = loads(&mut events).find(|load| load.level == level).expect("both levels");
        EventKind::Load(Box::new(Load { vm: 1, vcpu: u32::from(level), ..load.clone() }))
    };
    let (four, five) = (of_level(4), of_level(5));
    let facts = events.iter().filter(|event| matches!(event.kind, EventKind::Facts(_)));
    let facts: Vec<_> = facts.cloned().collect();
    let with = |four, five| {
        let events = [four, five].map(|kind| Event { time_ns: 0, kind });
        found(facts.iter().cloned().chain(events).collect())
    };
    let both = with(four.clone(), five.clone());
    assert_eq!(both, BTreeSet::from([("EPT109", Verdict::Advisory)]), "each right by itself");

    let EventKind::Load(stale) = &five else { panic!("a load") };
    let mut stale = stale.clone();
    stale.vcpu = 4;
    as_level_4(&mut stale);
    let same = with(EventKind::Load(stale), five);
    assert_eq!(same, mismatch(&["EPT108", "EPT109"]), "one is stale: the CPUID is the same");
}

/// feb627e8d6f6 again: the CPUID of a vCPU is changed after it has run.
#[test]
fn a_maxphyaddr_that_changes_after_the_first_run() {
    let mut events = corpus(SVM_5_10);
    let mut changed = decisions(&mut events).last().expect("a decision").clone();
    changed.vm = 1;
    changed.maxphyaddr = changed.maxphyaddr.map(|bits| bits ^ 1);
    changed.cpuid = None;
    let until = events
        .iter()
        .position(|event| matches!(event.kind, EventKind::VmGone { vm: 1 }))
        .expect("the first VM goes");
    events.truncate(until);
    let before = found(events.clone());
    let kind = EventKind::Decision(Box::new(changed));
    events.push(Event { time_ns: u64::MAX, kind });
    let news: BTreeSet<_> = found(events).difference(&before).copied().collect();
    assert!(news.contains(&("EPT108", Verdict::Advisory)), "{news:?}");
}

/// b628cb523c65: 52 bits, EPT of 4 levels, memory above 2^48: the guest faults for ever.
#[test]
fn a_guest_of_52_bits_on_a_root_of_4_levels() {
    let mut events = corpus(VMX);
    let seen = found(events.clone());
    assert_eq!(seen, BTreeSet::from([("EPT120", Verdict::Advisory)]), "this kernel does not tell");

    for event in &mut events {
        if let EventKind::Facts(facts) = &mut event.kind {
            facts.behaviour.ret_pf = Some(RetPf { fixed: 4, spurious: 5 });
        }
    }
    let loops = |answer| FaultLoop {
        vm: 1,
        pid: 1,
        vcpu: 0,
        gpa: 1 << 48,
        error_code: 6,
        answer,
        count: 256,
        for_ns: 1_000_000,
        mmu_level: Some(4),
    };
    let with = |answer| {
        let kind = EventKind::FaultLoop(loops(answer));
        found(events.iter().cloned().chain([Event { time_ns: u64::MAX, kind }]).collect())
    };
    for answer in [4, 5] {
        assert!(with(answer).contains(&("EPT121", Verdict::Mismatch)), "{answer}");
    }
    assert_eq!(with(2), seen, "MMIO may be emulated any number of times");
}

/// a3322d5cd87f: the table that shadows L1's NPT took its depth from L1.
#[test]
fn a_shadow_of_npt_with_the_levels_of_l1() {
    let mut events = nested("nested-svm-6.12.jsonl");
    let mut changed = 0;
    for mmu in shadows(&mut events) {
        if matches!(mmu.nested, Nested::Npt { l1: Some((cr4, _)) } if cr4 & 1 << 12 == 0) {
            mmu.level = Some(4);
            changed += 1;
        }
    }
    assert!(changed > 0);
    assert_eq!(found(events), mismatch(&["EPT503"]));
}

/// 746700d21fd5: a host with paging of 5 levels, and an NPT of 4.
#[test]
fn npt_of_4_levels_on_a_host_with_5() {
    let mut events = corpus(SVM_5_10);
    for event in &mut events {
        if let EventKind::Facts(facts) = &mut event.kind
            && facts.vendor == Vendor::Svm
        {
            facts.hardware.host_la57 = facts.hardware.host_la57.map(|_| true);
        }
    }
    assert!(found(events).contains(&("EPT104", Verdict::Mismatch)));
}

/// 84e5ffd045f3: 5 levels of the host shadow 4 of L1, and the role does not say so.
#[test]
fn a_fifth_level_that_is_not_passed_through() {
    let mut events = nested("nested-svm-6.12.jsonl");
    let mut changed = 0;
    for mmu in shadows(&mut events) {
        let passes = mmu.role.is_some_and(|role| role & 1 << 18 != 0);
        mmu.role = mmu.role.map(|role| role & !(1 << 18));
        changed += u32::from(passes);
    }
    assert!(changed > 0, "L1 with 4 levels under a host with 5");
    assert_eq!(found(events), mismatch(&["EPT503"]));
}

/// Of 5.10, and of no later kernel: the levels of L1's NPT are taken from the CR4 of L2.
#[test]
fn a_table_of_l1_that_is_walked_from_another_level() {
    let mut events = nested("nested-svm-6.12.jsonl");
    let mut changed = 0;
    for mmu in shadows(&mut events) {
        if matches!(mmu.nested, Nested::Npt { l1: Some((cr4, _)) } if cr4 & 1 << 12 != 0) {
            mmu.walk_level = Some(4);
            changed += 1;
        }
    }
    assert!(changed > 0, "L1 with 5 levels");
    assert_eq!(found(events), mismatch(&["EPT503"]));
}

/// 2f723a863423: the EPTP is made of the vCPU's state, and the root is of another level.
#[test]
fn an_eptp_made_of_the_vcpu_and_not_of_the_root() {
    let mut events = corpus(VMX5);
    let load = loads(&mut events).find(|load| load.level == 5).expect("a root of 5 levels");
    load.page_role = load.page_role.map(|role| role & !0xf | 4);
    assert_eq!(found(events), mismatch(&["EPT202"]));
}

/// No commit of its own: an entry is written by somebody who holds no lock, or flips in memory.
#[test]
fn an_entry_that_is_not_what_kvm_has_set() {
    let mut events = entries();
    let emptied = change(&events, 2, 0x400, false);
    if let EventKind::SpteChange(change) = &mut events[emptied].kind {
        change.old = change.old.map(|old| old ^ 1 << 21);
    }
    assert_eq!(found(events), mismatch(&["EPT401"]));

    let mut events = entries();
    events.remove(change(&events, 2, 0x400, true));
    assert_eq!(found(events), mismatch(&["EPT401"]), "a record that is not there");

    let mut events = entries();
    let set = change(&events, 2, 0x400, true);
    events[set].kind = EventKind::Loss { hook: "kvm_tdp_mmu_spte_changed".to_owned(), records: 1 };
    assert_eq!(found(events), BTreeSet::new(), "a loss that is told");
}

/// A table is filled that the hardware never gets to.
#[test]
fn entries_in_a_table_that_was_never_linked() {
    let mut events = entries();
    events.remove(change(&events, 3, 0, true));
    assert_eq!(found(events), mismatch(&["EPT401", "EPT402"]), "and it is unlinked all the same");

    let mut events = entries();
    for event in &mut events {
        if let EventKind::SpteChange(change) = &mut event.kind {
            change.from_start = false;
        }
    }
    events.remove(change(&events, 3, 0, true));
    assert_eq!(found(events), BTreeSet::new(), "a VM that was there before");
}

/// A large page where it cannot begin.
#[test]
fn a_large_page_that_is_not_aligned() {
    let mut events = entries();
    let mut changed = 0;
    for event in &mut events {
        if let EventKind::SpteChange(SpteChange { level: 2, old: None, new, .. }) = &mut event.kind
        {
            *new |= 1 << 13;
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    assert_eq!(found(events), mismatch(&["EPT403"]));
}

/// An entry is set in a table that was taken out, and nobody takes it out again.
#[test]
fn an_entry_in_a_table_that_was_zapped() {
    let mut events = entries();
    events.remove(change(&events, 2, 0x400, false));
    let set = events.remove(change(&events, 2, 0x400, true));
    let zapped = change(&events, 3, 0, false);
    events.insert(zapped + 1, set);
    assert_eq!(found(events), mismatch(&["EPT404"]));
}
