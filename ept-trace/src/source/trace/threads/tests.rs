use super::*;
use crate::model::ToldRole;

/// Of a direct page, as 6.12 has it.
const DIRECT: u32 = 0x1780;
const EMPTY: u64 = 1 << 63;
const TABLE: u64 = 0x907;
const PAGE: u64 = 0xb77;

fn told(threads: &mut Threads, tid: u32, events: &[Tracepoint]) -> Vec<EventKind> {
    let mut all = Vec::new();
    for event in events {
        threads.take(&Record { time_ns: 1, tid, tgid: 0, event: *event }, &mut all);
    }
    all.into_iter().map(|event| event.kind).collect()
}

/// What is told at the end.
fn rest(threads: &mut Threads) -> Vec<EventKind> {
    let mut all = Vec::new();
    threads.finish(&mut all);
    all.into_iter().map(|event| event.kind).collect()
}

/// Of a log that has everything.
fn threads() -> Threads {
    Threads::new(&Said { maxphyaddr: None, is_whole: true })
}

fn get_page(level: u32) -> Tracepoint {
    let role = PageRole::Word(DIRECT | level);
    Tracepoint::GetPage { gfn: 0, role, created: Some(true) }
}

fn changed(level: u8, gfn: u64, old: u64, new: u64) -> Tracepoint {
    Tracepoint::SpteChanged { as_id: 0, gfn, level, old, new }
}

const MADE: Tracepoint = Tracepoint::WriteTscOffset { vcpu: 0, previous: 0 };
const ENTRY: Tracepoint = Tracepoint::Entry { vcpu: Some(0) };
const EXIT: Tracepoint = Tracepoint::Exit { vcpu: Some(0), isa: Some(1) };

/// A vCPU is made, takes a root of 4 levels, writes to 0x2008, and goes on.
fn life() -> Vec<Tracepoint> {
    vec![
        MADE,
        MADE,
        get_page(4),
        ENTRY,
        EXIT,
        Tracepoint::PageFault { vcpu: Some(0), gpa: 0x2008, error_code: 0x782 },
        Tracepoint::SpteRequested { gfn: 2, pfn: 0xa0da, level: 1 },
        get_page(3),
        changed(4, 0, EMPTY, EMPTY | 0x8dc_f000 | TABLE),
        changed(3, 0, EMPTY, EMPTY | 0x8dc_e000 | TABLE),
        changed(2, 0, EMPTY, EMPTY | 0x8dc_d000 | TABLE),
        changed(1, 2, EMPTY, EMPTY | 0xa0d_a000 | PAGE),
        ENTRY,
    ]
}

fn roots(kinds: &[EventKind]) -> Vec<(u32, u32, u8)> {
    let root = |kind: &EventKind| match kind {
        EventKind::Root(root) => Some((root.pid, root.vcpu, root.level())),
        _ => None,
    };
    kinds.iter().filter_map(root).collect()
}

fn walks(kinds: &[EventKind]) -> Vec<&Walk> {
    kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::Walk(walk) => Some(&**walk),
            _ => None,
        })
        .collect()
}

fn changes(kinds: &[EventKind]) -> Vec<(bool, Option<InLog>)> {
    let change = |kind: &EventKind| match kind {
        EventKind::SpteChange(change) => Some((change.from_start, change.in_log)),
        _ => None,
    };
    kinds.iter().filter_map(change).collect()
}

#[test]
fn a_root_is_of_the_vcpu_that_is_entered_next_and_a_fault_of_its_thread() {
    let mut threads = threads();
    let kinds = told(&mut threads, 7, &life());
    assert_eq!(roots(&rest(&mut threads)), [(7, 0, 4)]);
    assert_eq!(changes(&kinds), [(true, Some(InLog::Judged)); 4]);
    let walks = walks(&kinds);
    assert_eq!(walks.len(), 1);
    assert_eq!((walks[0].gpa, walks[0].root_level), (0x2008, Some(4)));
    assert_eq!(walks[0].error_code, 2, "a write, by the exit qualification");
    assert_eq!(walks[0].requested, Some(Requested { gfn: 2, pfn: 0xa0da, level: 1 }));
    assert_eq!(walks[0].races, []);
}

#[test]
fn tables_below_a_root_of_5_levels_are_no_roots() {
    let mut threads = threads();
    let fault = Tracepoint::PageFault { vcpu: None, gpa: 0, error_code: 0 };
    told(&mut threads, 7, &[MADE, get_page(5), ENTRY, fault, get_page(4), ENTRY]);
    assert_eq!(roots(&rest(&mut threads)), [(7, 0, 5)]);
    // What is left at the end is told.
    assert_eq!(told(&mut threads, 7, &[get_page(5)]), []);
    assert_eq!(rest(&mut threads).len(), 1);
}

#[test]
fn a_table_of_4_levels_is_a_root_only_if_it_can_be_nothing_else() {
    let requested = Tracepoint::SpteRequested { gfn: 0, pfn: 1, level: 1 };
    let link = changed(5, 0, EMPTY, 0x1000 | TABLE);
    let linked = changed(4, 0, EMPTY, 0x2000 | TABLE);
    for (events, expected) in [
        // Nobody tells what it was made for.
        (&[get_page(4), ENTRY][..], 0),
        (&[get_page(4), ENTRY, linked], 1),
        // No kvm_page_fault is told, but what it is made for is.
        (&[ENTRY, requested, get_page(4), ENTRY], 0),
        (&[ENTRY, get_page(4), link, linked, ENTRY], 0),
    ] {
        let mut threads = threads();
        let mut kinds = told(&mut threads, 7, events);
        kinds.extend(rest(&mut threads));
        assert_eq!(roots(&kinds).len(), expected, "{events:?}");
    }
}

#[test]
fn a_vm_that_was_there_before_ends_the_history() {
    let without: Vec<_> = life().into_iter().filter(|event| *event != MADE).collect();
    let kinds = told(&mut threads(), 7, &without);
    assert!(changes(&kinds).iter().all(|(from_start, _)| !from_start));
    assert_eq!(walks(&kinds).len(), 0);
    let said = kinds.iter().filter(|kind| matches!(kind, EventKind::Hooks { .. })).count();
    assert_eq!(said, 1, "why is said, once");
    // One vCPU was made, and two threads run it.
    let mut threads = threads();
    told(&mut threads, 7, &life());
    told(&mut threads, 8, &[ENTRY]);
    assert_eq!(
        changes(&told(&mut threads, 7, &[changed(4, 0, EMPTY, 0)])),
        [(false, Some(InLog::Judged))]
    );
}

#[test]
fn one_thread_may_run_many_vms_if_each_was_made() {
    let mut threads = threads();
    for _ in 0..3 {
        assert!(changes(&told(&mut threads, 7, &life())).iter().all(|(whole, _)| *whole));
    }
    told(&mut threads, 8, &[ENTRY]);
    assert!(threads.torn.is_some(), "none is left over for another");
}

#[test]
fn what_the_host_takes_away_may_be_of_any_vm() {
    let mut threads = threads();
    told(&mut threads, 7, &life());
    let zap = changed(1, 2, EMPTY | 0xa0d_a000 | PAGE, EMPTY);
    let kinds = told(&mut threads, 7, &[Tracepoint::UnmapHva, zap]);
    assert_eq!(changes(&kinds), [(true, Some(InLog::Followed))]);
    assert_eq!(changes(&told(&mut threads, 9, &[zap])), [(true, Some(InLog::Followed))]);
    assert_eq!(changes(&told(&mut threads, 7, &[EXIT, zap])), [(true, Some(InLog::Judged))]);
    // Unless the user says so, it is not known that all threads are in the log.
    let mut threads = Threads::default();
    told(&mut threads, 7, &life());
    assert_eq!(changes(&told(&mut threads, 7, &[zap])), [(true, Some(InLog::Followed))]);
}

#[test]
fn another_thread_on_the_way_of_a_fault_is_a_race() {
    for (gfn, level, is_race) in [(2, 1, true), (0, 2, true), (3, 1, false), (512, 2, false)] {
        let mut threads = threads();
        let life = life();
        let mut kinds = told(&mut threads, 7, &life[..11]);
        kinds.extend(told(&mut threads, 8, &[changed(level, gfn, EMPTY, EMPTY)]));
        kinds.extend(told(&mut threads, 7, &life[11..]));
        let races = if is_race { &[Race::Entries][..] } else { &[] };
        assert_eq!(walks(&kinds)[0].races, races, "gfn {gfn}, level {level}");
    }
}

#[test]
fn what_is_lost_is_told_and_ends_what_was_half_told() {
    let mut threads = threads();
    let mut kinds = told(&mut threads, 7, &life()[..11]);
    kinds.extend(told(&mut threads, 0, &[Tracepoint::Lost { events: Some(12) }]));
    kinds.extend(told(&mut threads, 7, &life()[11..]));
    assert!(kinds.contains(&loss(Some(12))));
    assert_eq!(walks(&kinds).len(), 0);
    assert_eq!(changes(&kinds).last(), Some(&(false, Some(InLog::Judged))));
}

#[test]
fn maxphyaddr_is_what_the_guest_is_told_if_ever_else_the_users() {
    let cpuid = Tracepoint::Cpuid { function: 0x80000008, eax: 0x3934 };
    let other = Tracepoint::Cpuid { function: 0x80000007, eax: 0x3930 };
    let maxphyaddr = |given: Option<u8>, events: &[Tracepoint]| {
        let maxphyaddr = given.map(|bits| Fact::known(bits, "--maxphyaddr"));
        let mut threads = Threads::new(&Said { maxphyaddr, is_whole: true });
        let mut kinds = told(&mut threads, 7, events);
        kinds.extend(rest(&mut threads));
        let root = kinds.iter().find_map(|kind| match kind {
            EventKind::Root(root) => Some(root.maxphyaddr.clone()),
            _ => None,
        });
        root.unwrap().and_then(|fact| fact.value())
    };
    let root = [MADE, get_page(4), ENTRY, changed(3, 0, EMPTY, EMPTY)];
    assert_eq!(maxphyaddr(None, &root), None);
    assert_eq!(maxphyaddr(Some(48), &root), Some(48));
    assert_eq!(maxphyaddr(Some(48), &[&root[..], &[other]].concat()), Some(48));
    let of_another = [&[cpuid], &root[..]].concat();
    assert_eq!(maxphyaddr(Some(48), &of_another), Some(48), "the guest before on this thread");
    let again = [MADE, cpuid, get_page(4), ENTRY, changed(3, 0, EMPTY, EMPTY), ENTRY];
    assert_eq!(maxphyaddr(Some(48), &again), Some(52));
    let next_guest = [&root[..], &[MADE, ENTRY, cpuid]].concat();
    assert_eq!(maxphyaddr(Some(48), &next_guest), Some(48), "the guest after on this thread");
    assert_eq!(maxphyaddr(Some(48), &[&root[..], &[cpuid]].concat()), Some(52), "it comes later");
    let of_l2 = [Tracepoint::NestedEnter { pgd: None, is_ept: None }, cpuid];
    assert_eq!(maxphyaddr(Some(48), &[&root[..], &of_l2].concat()), Some(48));
}

#[test]
fn entries_of_an_older_kernel_are_not_followed() {
    let mut threads = threads();
    told(&mut threads, 7, &life());
    let old = told(&mut threads, 7, &[changed(3, 0, 0, 0x4000 | 0x107)]);
    assert_eq!(changes(&old), [(false, Some(InLog::Judged))]);
}

#[test]
fn where_only_the_text_is_told_it_will_do() {
    let role = PageRole::Told(ToldRole { level: 5, direct: true });
    let page = Tracepoint::GetPage { gfn: 0, role, created: None };
    let mut threads = threads();
    told(&mut threads, 7, &[MADE, page, ENTRY]);
    assert_eq!(roots(&rest(&mut threads)), [(7, 0, 5)]);
}
