//! Walks.

use super::*;

fn walked() -> WalkRecord {
    WalkRecord {
        header: header(kind::WALK, Hook::PageFaultReturn),
        of: SUBJECT,
        gpa: 0x4000_3000,
        error_code: 0x2_0000_0006,
        root_hpa: 0x5000,
        entries: [1, 2, 3, 4, 5],
        requested_gfn: 0x40003,
        requested_pfn: 0x12345,
        requested_level: 2,
        answer: 5,
        result: 1,
        flags: flag::ANSWERED | flag::REQUESTED | flag::AD_DISABLED | flag::RACED_SLOTS,
        roles: [0x15, 0x14, 0x13, 0x12, 0x11],
        count: 4,
        level: 5,
        slot_flags: 1,
        noncoherent_dma: 2,
        vm_type: 3,
        mmio_value: 6,
        notifier_seq: 7,
        slots_generation: 8,
        inputs: INPUTS,
    }
}

fn walk(record: &WalkRecord) -> Walk {
    match event(&mut Decoder::default(), &bytes(record)) {
        EventKind::Walk(walk) => *walk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_walk_is_decoded() {
    let expected = Walk {
        observed_by: "kvm_mmu_page_fault return".into(),
        vm: 1,
        pid: 99,
        vcpu: 3,
        gpa: 0x4000_3000,
        error_code: 0x2_0000_0006,
        nested: false,
        answer: Some(5),
        result: 1,
        requested: Some(Requested { gfn: 0x40003, pfn: 0x12345, level: 2 }),
        root_hpa: Some(0x5000),
        root_level: Some(5),
        ad_disabled: Some(true),
        is_dummy: false,
        entries: vec![1, 2, 3, 4],
        is_cut: false,
        roles: vec![0x15, 0x14, 0x13, 0x12],
        sampled: false,
        races: vec![Race::Memslots],
        unseen_races: vec![],
        slot_flags: Some(1),
        noncoherent_dma: Some(2),
        vm_type: Some(3),
        mmio_value: None,
        notifier_seq: Some(7),
        slots_generation: Some(8),
        inputs: inputs_read(),
    };
    assert_eq!(walk(&walked()), expected);
}

#[test]
fn of_a_walk_what_was_not_read_is_none() {
    let got = walk(&WalkRecord { of: unread(u32::MAX), flags: flag::DUMMY_ROOT, ..walked() });
    let expected = Walk {
        observed_by: "kvm_mmu_page_fault return".into(),
        vm: 1,
        pid: 99,
        vcpu: 3,
        gpa: 0x4000_3000,
        error_code: 0x2_0000_0006,
        result: 1,
        is_dummy: true,
        entries: vec![1, 2, 3, 4],
        is_cut: true,
        unseen_races: vec![Race::Notifier, Race::Memslots, Race::Root],
        inputs: inputs_read(),
        ..Walk::default()
    };
    assert_eq!(got, expected);
    let error = walk(&WalkRecord { result: (-14_i32).cast_unsigned(), count: 9, ..walked() });
    assert_eq!((error.result, error.entries.len()), (-14, 5));
}
