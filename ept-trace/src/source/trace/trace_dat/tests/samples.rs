//! Files of trace-cmd 3.1.6, and what it prints of them.
//!
//! They are a recording of KVM with a 5-level table on SVM (kernel 6.1), without the kernel's symbols
//! and the formats of events that are not in it; `trace-cmd convert` made version 7 of it, by zstd.
//! The text is what `trace-cmd report -R -t` prints of either.

use std::collections::BTreeMap;

use super::super::compression::Compression;
use super::made::{Buffer, Made, PAGE};
use super::*;
use crate::source::trace::record::PageRole;

pub const V6: &[u8] = include_bytes!("../../../../../../tests/corpus/dat/nested-v6.dat");
const V7: &[u8] = include_bytes!("../../../../../../tests/corpus/dat/nested-v7.dat");
const TEXT: &str = include_str!("../../../../../../tests/corpus/dat/nested.txt");

/// The fields of a line, whose radix differs by event.
struct Fields<'text>(BTreeMap<&'text str, &'text str>);

impl Fields<'_> {
    fn number<T: TryFrom<u64>>(&self, name: &str, radix: u32) -> T {
        let text = self.0[name];
        let (text, radix) = text.strip_prefix("0x").map_or((text, radix), |hex| (hex, 16));
        T::try_from(u64::from_str_radix(text, radix).unwrap()).ok().unwrap()
    }

    fn of(text: &str) -> Fields<'_> {
        Fields(text.split_whitespace().filter_map(|field| field.split_once('=')).collect())
    }
}

/// What a line of the text says, by its event's own rules; `None` for another event.
fn tracepoint(name: &str, text: &str) -> Option<Tracepoint> {
    let fields = Fields::of(text);
    Some(match name {
        "kvm_entry" => Tracepoint::Entry { vcpu: Some(fields.number("vcpu_id", 10)) },
        "kvm_exit" => Tracepoint::Exit {
            vcpu: Some(fields.number("vcpu_id", 10)),
            isa: Some(fields.number("isa", 10)),
        },
        "kvm_page_fault" => Tracepoint::PageFault {
            vcpu: Some(fields.number("vcpu_id", 10)),
            gpa: fields.number("fault_address", 16),
            error_code: fields.number("error_code", 16),
        },
        "kvm_mmu_get_page" => Tracepoint::GetPage {
            gfn: fields.number("gfn", 10),
            role: PageRole::Word(fields.number("role", 10)),
            created: Some(fields.number::<u8>("created", 10) == 1),
        },
        "kvm_mmu_prepare_zap_page" => Tracepoint::PrepareZap {
            gfn: fields.number("gfn", 10),
            role: PageRole::Word(fields.number("role", 10)),
        },
        "kvm_tdp_mmu_spte_changed" => Tracepoint::SpteChanged {
            as_id: fields.number("as_id", 10),
            gfn: fields.number("gfn", 16),
            level: fields.number("level", 10),
            old: fields.number("old_spte", 16),
            new: fields.number("new_spte", 16),
        },
        "kvm_mmu_set_spte" => Tracepoint::SetSpte {
            gfn: fields.number("gfn", 16),
            level: fields.number("level", 10),
            spte: fields.number("spte", 16),
            place: fields.number("sptep", 16),
        },
        "kvm_mmu_spte_requested" => Tracepoint::SpteRequested {
            gfn: fields.number("gfn", 16),
            pfn: fields.number("pfn", 16),
            level: fields.number("level", 10),
        },
        "kvm_unmap_hva_range" | "kvm_set_spte_hva" => Tracepoint::UnmapHva,
        "kvm_write_tsc_offset" => Tracepoint::WriteTscOffset {
            vcpu: fields.number("vcpu_id", 10),
            previous: fields.number("previous_tsc_offset", 10),
        },
        _ => return None,
    })
}

/// The records that the text has, and how many other lines.
fn told() -> (Vec<Record>, u64) {
    let (mut records, mut others) = (Vec::new(), 0);
    for line in TEXT.lines().filter(|line| line.contains("[000]")) {
        let (task, rest) = line.split_once("[000]").unwrap();
        let tid = task.trim_end().rsplit('-').next().unwrap().parse().unwrap();
        let mut parts = rest.trim_start().splitn(3, ": ");
        let time_ns = parts.next().unwrap().replace('.', "").parse().unwrap();
        let name = parts.next().unwrap();
        match tracepoint(name, parts.next().unwrap_or_default()) {
            Some(event) => records.push(Record { time_ns, tid, tgid: 0, event }),
            None => others += 1,
        }
    }
    (records, others)
}

#[test]
fn all_records_are_what_trace_cmd_prints() {
    let (records, others) = told();
    assert_eq!((records.len(), others), (47, 129));
    for file in [V6, V7] {
        let batch = read(file);
        assert_eq!(batch.skipped, Skipped::default());
        assert_eq!(batch.records, records);
        assert_eq!(batch.others, others);
    }
}

#[test]
fn the_instance_is_the_top_one_and_has_kvm() {
    for file in [V6, V7] {
        assert!(recognise(&file[..16]));
        let dat = open(file).unwrap();
        let (name, clock) = (String::new(), "local".to_owned());
        assert_eq!(dat.instances(), [Instance { name, clock, has_times: true }]);
        assert!(dat.holds_kvm(0).unwrap());
        assert!(!dat.holds_kvm(1).unwrap());
    }
    assert!(!recognise(b"\x7fELF"));
    assert!(!recognise(b""));
}

#[test]
fn versions_and_compressions_tell_the_same() {
    let page = |number: u64, cpu: u32| {
        let mut page = made::Page::at(1000 * number + u64::from(cpu));
        for event in 0..50 {
            page = page.event(2, &made::entry(100 + cpu, event)).event(1, &made::switch(7));
        }
        page.bytes()
    };
    let pages = |cpu| (0..25).map(|number| page(number, cpu)).collect::<Vec<_>>();
    let mut made = Made::new(vec![pages(0), pages(1)]);
    made.buffers.push(Buffer { name: "kvm", cpus: vec![pages(2), Vec::new()] });
    let files = [
        made.v6(),
        made.v7(Compression::None),
        made.v7(Compression::Zlib),
        made.v7(Compression::Zstd),
    ];
    let expected = |instance| read_all(&open(&files[0]).unwrap(), instance).unwrap();
    assert_eq!(expected(0).records.len(), 2 * 25 * 50);
    assert_eq!(expected(1).records.len(), 25 * 50);
    assert_eq!(expected(1).others, 25 * 50);
    for file in &files {
        let dat = open(file).unwrap();
        let names: Vec<_> = dat.instances().iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["", "kvm"]);
        for instance in [0, 1] {
            let batch = read_all(&dat, instance).unwrap();
            assert_eq!(batch.skipped, Skipped::default());
            assert!(!tells_loss(&batch));
            assert_eq!(batch.records, expected(instance).records);
            assert_eq!(batch.others, expected(instance).others);
        }
    }
    assert!(files[2].len() < files[0].len() / 4, "pages are of {PAGE} bytes");
}
