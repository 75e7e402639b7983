use super::*;
use crate::source::trace::binary::Decoded;
use crate::source::trace::record::Tracepoint;

const HEADER_PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
    \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
    \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
    \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
const KVM_ENTRY: &str = "name: kvm_entry\nID: 1482\nformat:\n\
    \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
    \tfield:unsigned int vcpu_id;\toffset:8;\tsize:4;\tsigned:0;\n\n\
    print fmt: \"vcpu %u\", REC->vcpu_id\n";

fn sized(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// What perf saves of a kernel with the events that these formats are of.
fn tracing_data(formats: &[&str]) -> Vec<u8> {
    let formats: Vec<_> = formats.iter().map(|text| sized(text)).collect();
    [
        MAGIC,
        b"0.6\0\0\x08",
        &4096_u32.to_le_bytes(),
        b"header_page\0",
        &sized(HEADER_PAGE),
        b"header_event\0",
        &sized("# compressed entry header\n"),
        &1_u32.to_le_bytes(),
        &sized("name: print\nID: 5\nformat:\n"),
        &1_u32.to_le_bytes(),
        b"kvm\0",
        &u32::try_from(formats.len()).unwrap().to_le_bytes(),
        &formats.concat(),
    ]
    .concat()
}

#[test]
fn events_of_all_systems_are_learned() {
    let data = tracing_data(&["name: kvm_fpu\nID: 7\nformat:\n", KVM_ENTRY]);
    let events = Events::of_perf(&data).unwrap();
    assert_eq!(events.skipped, Skipped::default());
    let decode = |event: &[u8]| events.decoder.decode(event);
    assert_eq!(decode(&[5, 0]), Ok(Decoded::Other));
    assert_eq!(decode(&[7, 0]), Ok(Decoded::Other));
    let entry = [0xca, 5, 0, 0, 77, 0, 0, 0, 2, 0, 0, 0];
    let event = Tracepoint::Entry { vcpu: Some(2) };
    assert_eq!(decode(&entry), Ok(Decoded::Ours { tid: 77, event }));
}

#[test]
fn a_bad_format_is_named_and_the_others_are_learned() {
    let data = tracing_data(&["name: kvm_fpu\nformat:\n", KVM_ENTRY]);
    let events = Events::of_perf(&data).unwrap();
    assert_eq!(events.skipped.count, 1);
    assert!(events.skipped.first[0].ends_with("a format of kvm: no good `ID:`"));
    assert!(events.decoder.knows_kvm());
}

#[test]
fn a_file_that_ends_anywhere_is_an_error() {
    let data = tracing_data(&[KVM_ENTRY]);
    Events::of_perf(&data).unwrap();
    for length in 0..data.len() {
        let err = Events::of_perf(&data[..length]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes: {err}");
    }
}

#[test]
fn a_changed_byte_is_no_panic() {
    let data = tracing_data(&["name: kvm_fpu\nID: 7\nformat:\n", KVM_ENTRY]);
    for at in 0..data.len() {
        for change in [1, 0x10, 0x80, 0xff] {
            let mut data = data.clone();
            data[at] ^= change;
            let _ = Events::of_perf(&data);
        }
    }
}

#[test]
fn sizes_that_lie_are_refused_before_memory_is_taken() {
    let data = tracing_data(&[KVM_ENTRY]);
    let at = data.windows(5).position(|bytes| bytes == b"name:").unwrap() - 8;
    let mut lying = data.clone();
    lying[at..at + 8].fill(0xff);
    let err = Events::of_perf(&lying).unwrap_err();
    assert!(err.to_string().contains("18446744073709551615 bytes"), "{err}");
    let at = data.windows(3).position(|bytes| bytes == b"kvm").unwrap();
    let mut lying = data;
    lying[at - 4..at].fill(0xff);
    let err = Events::of_perf(&lying).unwrap_err();
    assert!(err.to_string().contains("count of 4294967295"), "{err}");
}

#[test]
fn big_endian_is_refused_by_name() {
    let mut data = tracing_data(&[]);
    data[MAGIC.len() + 4] = 1;
    let err = Events::of_perf(&data).unwrap_err();
    assert!(err.to_string().contains("big-endian"), "{err}");
}

#[test]
fn pages_have_the_layout_that_the_kernel_tells() {
    let layout = PageLayout { commit: 8, commit_size: 8, data: 16, size: 4096 };
    assert_eq!(PageLayout::parse(HEADER_PAGE), Some(layout));
    let on_32_bits = HEADER_PAGE
        .replace("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:4")
        .replace("offset:16;\tsize:4080", "offset:12;\tsize:4084");
    let layout = PageLayout { commit: 8, commit_size: 4, data: 12, size: 4096 };
    assert_eq!(PageLayout::parse(&on_32_bits), Some(layout));
    for (from, to) in [
        ("size:4080", "size:0"),
        ("offset:16", "offset:12"),
        ("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:2"),
        ("commit;\toffset:8", "commit;\toffset:0"),
        ("timestamp", "time"),
    ] {
        assert_eq!(PageLayout::parse(&HEADER_PAGE.replace(from, to)), None, "{from} {to}");
    }
}
