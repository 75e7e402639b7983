use super::*;
use crate::source::trace::record::PageRole;

/// The text of a `format`; each field is its declaration, offset and size.
fn format(system: &str, name: &str, id: u16, fields: &[(&str, u16, u16)]) -> Format {
    let common = [("unsigned short common_type", 0, 2), ("int common_pid", 4, 4)];
    let line = |(declaration, offset, size): &(&str, u16, u16)| {
        format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:0;\n")
    };
    let fields: String = common.iter().chain(fields).map(line).collect();
    let text = format!("name: {name}\nID: {id}\nformat:\n{fields}");
    Format::parse(system, &text).unwrap()
}

/// An event, whose bytes are words of 8 after its common fields.
fn event(id: u16, pid: u32, words: &[u64]) -> Vec<u8> {
    let mut event = Vec::new();
    event.extend(id.to_le_bytes());
    event.extend([0; 2]);
    event.extend(pid.to_le_bytes());
    event.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    event
}

fn decoder(formats: &[Format]) -> Decoder {
    let mut decoder = Decoder::default();
    for format in formats {
        decoder.learn(format).unwrap();
    }
    decoder
}

/// The only event of a log.
fn one(format: &Format, words: &[u64]) -> Result<Decoded, Undecodable> {
    decoder(std::slice::from_ref(format)).decode(&event(format.id, 77, words))
}

fn ours(event: Tracepoint) -> Decoded {
    Decoded::Ours { tid: 77, event }
}

#[test]
fn the_page_fault_of_old_kernels_and_of_new_ones() {
    let fields = [("unsigned long fault_address", 8, 8), ("unsigned int error_code", 16, 4)];
    let old = format("kvm", "kvm_page_fault", 7, &fields);
    let expected = Tracepoint::PageFault { vcpu: None, gpa: 0x1000, error_code: 0x184 };
    assert_eq!(one(&old, &[0x1000, 0x184]), Ok(ours(expected)));

    let new = format(
        "kvm",
        "kvm_page_fault",
        7,
        &[
            ("unsigned int vcpu_id", 8, 4),
            ("unsigned long guest_rip", 16, 8),
            ("u64 fault_address", 24, 8),
            ("u64 error_code", 32, 8),
        ],
    );
    let expected = Tracepoint::PageFault { vcpu: Some(3), gpa: 0x1000, error_code: 0x1_0000_0014 };
    assert_eq!(one(&new, &[3, 0xfff0, 0x1000, 0x1_0000_0014]), Ok(ours(expected)));
}

#[test]
fn a_page_has_the_whole_word_of_its_role() {
    let fields = [
        ("unsigned long mmu_valid_gen", 8, 8),
        ("__u64 gfn", 16, 8),
        ("__u32 role", 24, 4),
        ("__u32 root_count", 28, 4),
        ("bool unsync", 32, 1),
    ];
    let zapped = format("kvmmmu", "kvm_mmu_prepare_zap_page", 9, &fields);
    let words = [1, 0x40, 0x3785, 0];
    let role = PageRole::Word(0x3785);
    assert_eq!(one(&zapped, &words), Ok(ours(Tracepoint::PrepareZap { gfn: 0x40, role })));

    let mut fields = fields.to_vec();
    fields.push(("bool created", 33, 1));
    let got = format("kvmmmu", "kvm_mmu_get_page", 9, &fields);
    let expected = Tracepoint::GetPage { gfn: 0x40, role, created: Some(true) };
    assert_eq!(one(&got, &[1, 0x40, 0x3785, 0x100]), Ok(ours(expected)));
    assert_eq!(one(&got, &[1, 0x40, 0x3785, 0x200]), Err(Undecodable::Value { id: 9 }));
}

#[test]
fn the_table_of_l2_is_told_only_where_l1_has_one() {
    let fields = [("bool tdp_enabled", 8, 1), ("__u64 guest_pgd", 16, 8), ("__u32 isa", 24, 4)];
    let new = format("kvm", "kvm_nested_vmenter", 5, &fields);
    let enter = |pgd, is_ept| Ok(ours(Tracepoint::NestedEnter { pgd, is_ept: Some(is_ept) }));
    assert_eq!(one(&new, &[1, 0x101e, 1]), enter(Some(0x101e), true));
    assert_eq!(one(&new, &[1, 0x1000, 2]), enter(Some(0x1000), false));
    assert_eq!(one(&new, &[0, 0x2000, 1]), enter(None, true));
    assert_eq!(one(&new, &[1, 0x2000, 3]), Err(Undecodable::Value { id: 5 }));
    let old = format("kvm", "kvm_nested_vmrun", 5, &[("__u64 rip", 8, 8), ("bool npt", 16, 1)]);
    assert_eq!(one(&old, &[0xfff0, 1]), enter(None, false));
}

#[test]
fn numbers_may_be_wider_than_they_are_today() {
    let wide = [
        ("u64 gfn", 8, 8),
        ("u64 old_spte", 16, 8),
        ("u64 new_spte", 24, 8),
        ("int level", 32, 4),
        ("int as_id", 36, 4),
    ];
    let wide = format("kvmmmu", "kvm_tdp_mmu_spte_changed", 1, &wide);
    let expected =
        Tracepoint::SpteChanged { as_id: 1, gfn: 0x200, level: 5, old: 0, new: 1 << 63 | 7 };
    assert_eq!(one(&wide, &[0x200, 0, 1 << 63 | 7, 1 << 32 | 5]), Ok(ours(expected)));
    for level in [0, 6, 0x105] {
        let words = [0x200, 0, 7, level];
        assert_eq!(one(&wide, &words), Err(Undecodable::Value { id: 1 }), "level {level}");
    }
}

#[test]
fn other_events_are_passed_over_and_unknown_ones_are_named() {
    let other = format("kvm", "kvm_fpu", 3, &[("u32 load", 8, 4)]);
    assert_eq!(one(&other, &[1]), Ok(Decoded::Other));
    // The name of an event counts only in its system.
    let other = format("mine", "kvm_entry", 3, &[]);
    assert_eq!(one(&other, &[]), Ok(Decoded::Other));
    assert_eq!(one(&other, &[0; 2]), Err(Undecodable::Length { id: 3, length: 24 }));
    let decoder = decoder(&[other]);
    assert!(!decoder.knows_kvm());
    assert_eq!(decoder.decode(&event(4, 77, &[])), Err(Undecodable::UnknownId(4)));
    assert_eq!(decoder.decode(&event(2, 77, &[])), Err(Undecodable::UnknownId(2)));
    assert_eq!(decoder.decode(&[3]), Err(Undecodable::TooShort));
}

#[test]
fn an_event_of_another_length_or_of_no_thread_is_refused() {
    let fields = [("unsigned int vcpu_id", 8, 4), ("unsigned long rip", 16, 8), ("bool x", 24, 1)];
    let entry = format("kvm", "kvm_entry", 6, &fields);
    let decoder = decoder(&[entry]);
    let whole = event(6, 77, &[2, 0xfff0, 0]);
    assert_eq!(decoder.decode(&whole), Ok(ours(Tracepoint::Entry { vcpu: Some(2) })));
    assert!(decoder.knows_kvm());
    for length in [0, 1, 2, 8, 24] {
        assert!(decoder.decode(&whole[..length]).is_err(), "{length} bytes");
    }
    let long = event(6, 77, &[2, 0xfff0, 0, 0, 0]);
    assert_eq!(decoder.decode(&long), Err(Undecodable::Length { id: 6, length: 48 }));
    let nobody = event(6, u32::MAX, &[2, 0xfff0, 0]);
    assert_eq!(decoder.decode(&nobody), Err(Undecodable::Value { id: 6 }));
}

#[test]
fn an_event_with_an_array_has_no_longest_length() {
    for array in [("__data_loc char[] name", 8, 4), ("unsigned long caller[]", 8, 0)] {
        let other = format("kvm", "kvm_hv_log", 3, &[array]);
        assert_eq!(one(&other, &[0; 100]), Ok(Decoded::Other));
    }
    // `caller[8]` of this one may have more, or less.
    let stack = format("ftrace", "kernel_stack", 4, &[("unsigned long caller[8]", 8, 64)]);
    assert_eq!(one(&stack, &[0; 3]), Ok(Decoded::Other));
    assert_eq!(one(&stack, &[0; 30]), Ok(Decoded::Other));
}

#[test]
fn a_format_that_would_not_do_is_refused() {
    let mut decoder = Decoder::default();
    let lacking = format("kvm", "kvm_page_fault", 7, &[("unsigned long fault_address", 8, 8)]);
    let field = "error_code";
    let event = "kvm:kvm_page_fault".to_owned();
    assert_eq!(decoder.learn(&lacking), Err(BadFormat::NoNumber { event, field }));
    let odd = format("kvm", "kvm_entry", 8, &[("unsigned int vcpu_id", 8, 3)]);
    assert!(matches!(decoder.learn(&odd), Err(BadFormat::NoNumber { field: "vcpu_id", .. })));
    let fields = [("unsigned int vcpu_id", 8, 4), ("unsigned long rip", 10, 8)];
    let overlapping = format("kvm", "kvm_entry", 8, &fields);
    assert!(matches!(decoder.learn(&overlapping), Err(BadFormat::Overlap { .. })));
    let other = format("sched", "sched_switch", 9, &[]);
    decoder.learn(&other).unwrap();
    assert!(matches!(decoder.learn(&other), Err(BadFormat::SameId { id: 9, .. })));
}

#[test]
fn a_field_beyond_all_events_is_never_read() {
    let far = format("kvm", "kvm_entry", 6, &[("unsigned int vcpu_id", 65535, 4)]);
    let decoder = decoder(&[far]);
    for length in [0, 8, 4096, 65535, 65538] {
        let mut event = vec![0; length];
        event[..2.min(length)].copy_from_slice(&[6, 0][..2.min(length)]);
        assert!(decoder.decode(&event).is_err(), "{length} bytes");
    }
}
