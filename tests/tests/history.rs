//! Bugs that KVM has had, each rebuilt from what was observed on a kernel without it, and each
//! found and named. No kernel is booted here.

use std::collections::BTreeSet;
use std::path::Path;

use ept_trace::analysis::Judged;
use ept_trace::model::{
    Decision, Event, EventKind, FaultLoop, Load, Nested, RetPf, ShadowMmu, Vendor, Verdict,
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

/// The healthy twins of everything below.
#[test]
fn without_the_bugs_nothing_is_found() {
    for file in ["nested-vmx5-6.12.jsonl", "nested-svm-6.12.jsonl"] {
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

/// de3ccd26fafc: the MMU is not set up again when the CPUID changes, and the level is stale.
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

/// 49c6f8756cdf: MAXPHYADDR changed, and the role was thought to be the same.
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

/// 2f723a863423: the EPTP is made of the vCPU's state, and the root is of another level.
#[test]
fn an_eptp_made_of_the_vcpu_and_not_of_the_root() {
    let mut events = corpus(VMX5);
    let load = loads(&mut events).find(|load| load.level == 5).expect("a root of 5 levels");
    load.page_role = load.page_role.map(|role| role & !0xf | 4);
    assert_eq!(found(events), mismatch(&["EPT202"]));
}
