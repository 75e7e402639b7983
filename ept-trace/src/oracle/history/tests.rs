use super::*;

const EMPTY: u64 = 1 << 63;
const TABLE: u64 = 0x827;
const PAGE: u64 = 0xe67;

/// What is found of changes, each `(time in ms, level, gfn, old, new)`, of one VM.
fn found(changes: &[(u64, u8, u64, u64, u64)]) -> Vec<Fault> {
    let mut history = History::default();
    let mut faults = Vec::new();
    let vm = Some(1);
    for &(ms, level, gfn, old, new) in changes {
        let change = SpteChange {
            vm,
            from_start: true,
            as_id: Some(0),
            gfn,
            level,
            old: Some(old),
            new,
            ..SpteChange::default()
        };
        let kind = EventKind::SpteChange(change);
        history.follow(&Event { time_ns: ms * 1_000_000, kind }, true);
        faults.extend(history.findings().iter().map(|found| found.fault));
    }
    faults
}

const LINKED: [(u64, u8, u64, u64, u64); 3] = [
    (0, 4, 0, EMPTY, 0x4000 | TABLE),
    (0, 3, 0, EMPTY, 0x3000 | TABLE),
    (0, 2, 0, EMPTY, 0x2000 | TABLE),
];

/// Nothing that matters, much later.
const LATER: (u64, u8, u64, u64, u64) = (5000, 4, 0, EMPTY, 0);

fn after_linked(changes: &[(u64, u8, u64, u64, u64)]) -> Vec<Fault> {
    found(&[&LINKED, changes, &[LATER]].concat())
}

#[test]
fn changes_that_are_told_in_another_order_make_sense_in_the_end() {
    let set = |ms, page| (ms, 1, 0x10, EMPTY, page | PAGE);
    let taken = |ms, page| (ms, 1, 0x10, page | PAGE, EMPTY);
    assert_eq!(after_linked(&[set(1, 0x9000), taken(2, 0x9000)]), []);
    assert_eq!(after_linked(&[taken(1, 0x9000), set(2, 0x9000)]), []);
    let chain = [set(1, 0xa000), taken(2, 0x9000), set(3, 0x9000), taken(4, 0xa000)];
    assert_eq!(after_linked(&chain), []);
    // Write-protected before its setting is told, and then taken away.
    let protected = (1, 1, 0x10, 0x9000 | PAGE, 0x9000 | PAGE & !2);
    assert_eq!(after_linked(&[protected, set(2, 0x9000), taken(3, 0x9000)]), []);
    assert_eq!(after_linked(&[protected, taken(2, 0x9000), set(3, 0x9000)]), []);
    // What comes a second later comes too late.
    assert_eq!(after_linked(&[taken(1, 0x9000), set(1200, 0x9000)]), [Fault::Missing]);
    assert_eq!(after_linked(&[protected]), [Fault::Missing]);
}

#[test]
fn a_page_that_is_put_where_one_is_already() {
    let twice = [(1, 1, 0x10, EMPTY, 0x9000 | PAGE), (2, 1, 0x10, EMPTY, 0xa000 | PAGE)];
    assert_eq!(after_linked(&twice), [Fault::Occupied]);
    // A second root, with tables of its own, has room for it.
    let other = [4, 3, 2].map(|level| (0, level, 0, EMPTY, 0x6000 | TABLE));
    assert_eq!(after_linked(&[&other, &twice[..]].concat()), []);
}

#[test]
fn a_split_page_has_a_table_that_nobody_told_of() {
    let split = [
        (1, 2, 0x200, EMPTY, 0x20_0000 | PAGE | 1 << 7),
        (2, 2, 0x200, 0x20_0000 | PAGE | 1 << 7, 0x8000 | TABLE),
        (3, 1, 0x203, 0x20_3000 | PAGE, EMPTY),
        (4, 1, 0x203, EMPTY, 0x9000 | PAGE),
    ];
    assert_eq!(after_linked(&split), []);
}

#[test]
fn a_table_of_4_levels_may_be_a_root() {
    assert_eq!(found(&[(0, 4, 0, EMPTY, 0x4000 | TABLE), LATER]), []);
    assert_eq!(found(&[(0, 3, 0, EMPTY, 0x5000 | TABLE), LATER]), [Fault::NeverLinked]);
    assert_eq!(found(&LINKED), []);
}

#[test]
fn what_maps_something_else_in_a_vm_that_is_not_known_ends_all_history() {
    let mut history = History::default();
    let mut follow = |vm, old, new| {
        let change = SpteChange {
            vm,
            from_start: vm.is_some(),
            as_id: Some(0),
            level: 5,
            old: Some(old),
            new,
            ..SpteChange::default()
        };
        let kind = EventKind::SpteChange(change);
        history.follow(&Event { time_ns: 0, kind }, true);
        history.fits()
    };
    assert_eq!(follow(Some(1), EMPTY, 0x4000 | TABLE), Some(true));
    assert_eq!(follow(None, 0x9000 | PAGE | 0x80, 0x9000 | 0xa40 | 0x80), None, "aged");
    assert_eq!(follow(Some(1), 0x4000 | TABLE, EMPTY), Some(true));
    assert_eq!(follow(None, EMPTY, 0x4000 | TABLE), None);
    assert_eq!(follow(Some(1), EMPTY, 0x4000 | TABLE), None);
    assert_eq!(follow(Some(2), EMPTY, 0x4000 | TABLE), Some(true));
}

#[test]
fn a_vm_with_more_than_can_be_kept_is_not_judged() {
    let mut history = History::default();
    for gfn in 0..MOST_PLACES as u64 + 10 {
        let change = SpteChange {
            vm: Some(1),
            from_start: true,
            as_id: Some(0),
            gfn: gfn << 27,
            level: 4,
            old: Some(EMPTY),
            new: gfn << 12 | TABLE,
            ..SpteChange::default()
        };
        history.follow(&Event { time_ns: 0, kind: EventKind::SpteChange(change) }, true);
    }
    assert_eq!(history.fits(), None);
    assert!(history.vms[&1].places.is_empty());
}

/// A change that a log tells.
fn in_log(in_log: InLog, level: u8, gfn: u64, old: u64, new: u64) -> SpteChange {
    SpteChange {
        from_start: true,
        in_log: Some(in_log),
        as_id: Some(0),
        gfn,
        level,
        old: Some(old),
        new,
        ..SpteChange::default()
    }
}

/// What is found of the last of these changes of a log, each `(as, level, gfn, old, new)`; and whether
/// history goes on after it.
fn found_in_log(changes: &[(InLog, u8, u64, u64, u64)]) -> (Vec<Fault>, bool) {
    let mut history = History::default();
    let mut faults = Vec::new();
    let later = [(InLog::Judged, 4, 1 << 27, EMPTY, 0)];
    for (number, (of, level, gfn, old, new)) in changes.iter().chain(&later).enumerate() {
        let change = in_log(*of, *level, *gfn, *old, *new);
        let time_ns = if number == changes.len() { 5 * GRACE_NS } else { 0 };
        history.follow(&Event { time_ns, kind: EventKind::SpteChange(change) }, true);
        faults.extend(history.findings().iter().map(|found| found.fault));
    }
    (faults, history.fits().is_some())
}

#[test]
fn what_others_change_in_a_log_is_a_fault_only_if_it_can_be_no_other_vm() {
    let linked = LINKED.map(|(_, level, gfn, old, new)| (InLog::Judged, level, gfn, old, new));
    let set = (InLog::Judged, 1, 0x10, EMPTY, 0x0123_4000 | PAGE);
    let after =
        |in_log, old| found_in_log(&[&linked[..], &[set, (in_log, 1, 0x10, old, EMPTY)]].concat());
    assert_eq!(after(InLog::Followed, 0x0123_4000 | PAGE), (vec![], true));
    assert_eq!(after(InLog::Judged, 0x0765_4000 | PAGE), (vec![Fault::Missing], true));
    assert_eq!(after(InLog::Followed, 0x0765_4000 | PAGE), (vec![], false), "of another VM");
    assert_eq!(after(InLog::Followed, 0x4123_4000 | PAGE), (vec![Fault::Missing], true));
}

#[test]
fn at_the_end_of_a_log_what_was_in_a_table_that_is_gone_is_certain() {
    let found = |unlinked: bool, end_ns: u64| {
        let mut history = History::default();
        let mut changes = LINKED.to_vec();
        changes.push((0, 1, 0x10, EMPTY, 0x9000 | PAGE));
        changes.push((0, 1, 0x10, 0xa000 | PAGE, EMPTY));
        if unlinked {
            changes.push((0, 2, 0, 0x2000 | TABLE, EMPTY));
        }
        for (_, level, gfn, old, new) in changes {
            let change = in_log(InLog::Judged, level, gfn, old, new);
            history.follow(&Event { time_ns: 0, kind: EventKind::SpteChange(change) }, true);
        }
        history.follow(&Event { time_ns: end_ns, kind: EventKind::End }, true);
        history.findings().len()
    };
    assert_eq!(found(true, GRACE_OF_THE_GONE_NS), 1);
    assert_eq!(found(true, GRACE_OF_THE_GONE_NS - 1), 0);
    assert_eq!(found(false, GRACE_OF_THE_GONE_NS), 0, "it may be told yet");
}

#[test]
fn what_may_not_have_been_recorded_is_no_fault_and_ends_the_history_of_a_log() {
    // Another thread took the page away, unseen, and it is put in again.
    let mut history = History::default();
    let set = |page: u64| (1, 0x10, EMPTY, page | PAGE);
    let linked = LINKED.map(|(_, level, gfn, old, new)| (level, gfn, old, new));
    let mut found = None;
    let changes =
        linked.into_iter().chain([set(0x9000), set(0xa000)]).chain([(4, 1 << 27, EMPTY, 0)]);
    for ((level, gfn, old, new), time_ns) in changes.zip([0, 0, 0, 0, 0, 2 * GRACE_NS]) {
        let change = in_log(InLog::Followed, level, gfn, old, new);
        history.follow(&Event { time_ns, kind: EventKind::SpteChange(change) }, true);
        assert_eq!(history.findings(), []);
        found = history.unexplained().map(|found| found.fault);
    }
    assert_eq!(found, Some(Fault::Occupied));
    assert_eq!(history.fits(), None);
}
