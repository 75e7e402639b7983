//! Against a real perf.data and the text that perf makes of it, and against files made of it.

mod damage;
mod samples;
mod speed;
mod writer;

use std::io::{Cursor, Write as _};

use self::writer::{Compressor, END_OF_ROUND};
use super::*;
use crate::source::trace::{PageRole, Record, Tracepoint};

/// `perf record -a -e 'kvm:*' -e 'kvmmmu:*' -e sched:sched_switch` on Linux 6.1, and `perf script`.
const SVM: &[u8] = include_bytes!("../../../../../tests/corpus/perf/svm-6.1.data");
const SCRIPT: &str = include_str!("../../../../../tests/corpus/perf/svm-6.1.script.txt");

fn open(file: &[u8]) -> io::Result<PerfData> {
    let path = std::env::temp_dir();
    let number = std::thread::current().id();
    let path = path.join(format!("ept-trace-perf-{}-{number:?}", std::process::id()));
    let mut opened = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    opened.write_all(file)?;
    PerfData::open(opened)
}

fn stream(pipe: Vec<u8>) -> io::Result<PerfData> {
    PerfData::stream(Box::new(Cursor::new(pipe)))
}

/// All that a reader tells, and the error that it ends with.
fn read_all(mut reader: PerfData) -> (Batch, Option<io::Error>) {
    let mut all = Batch::default();
    loop {
        let mut batch = Batch::default();
        if let Err(err) = reader.read(&mut batch) {
            return (all, Some(err));
        }
        if batch.records.is_empty() && batch.skipped.count == 0 && batch.others == 0 {
            return (all, None);
        }
        all.records.extend(batch.records);
        all.skipped.append(batch.skipped);
        all.others += batch.others;
    }
}

/// Those of a file that is whole.
fn read_whole(reader: io::Result<PerfData>) -> Vec<Record> {
    let (batch, err) = read_all(reader.unwrap());
    assert!(err.is_none() && batch.skipped == Skipped::default(), "{:?} {err:?}", batch.skipped);
    batch.records
}

/// What the line of an event has in it.
fn told(event: Tracepoint) -> String {
    let role = |role| match role {
        PageRole::Word(word) => word,
        PageRole::Told(_) => panic!("a raw event has all of its role"),
    };
    match event {
        Tracepoint::Entry { vcpu: Some(vcpu) } => format!("kvm:kvm_entry: vcpu {vcpu},"),
        Tracepoint::Exit { vcpu: Some(vcpu), isa: Some(2) } => {
            format!("kvm:kvm_exit: vcpu {vcpu} ")
        }
        Tracepoint::PageFault { vcpu: Some(vcpu), gpa, error_code } => format!(
            "kvm:kvm_page_fault: vcpu {vcpu} rip 0x1000 address {gpa:#018x} error_code {error_code:#x}"
        ),
        Tracepoint::GetPage { gfn, role: word, created: Some(true) } => format!(
            "kvmmmu:kvm_mmu_get_page: [FAILED TO PARSE] mmu_valid_gen=0 gfn={gfn} role={} \
             root_count=0 unsync=0 created=1",
            role(word)
        ),
        Tracepoint::PrepareZap { gfn, role: word } => format!(
            "kvmmmu:kvm_mmu_prepare_zap_page: [FAILED TO PARSE] mmu_valid_gen=0 gfn={gfn} role={} ",
            role(word)
        ),
        Tracepoint::SpteChanged { as_id, gfn, level, old, new } => format!(
            "kvmmmu:kvm_tdp_mmu_spte_changed: as id {as_id} gfn {gfn:x} level {level} old_spte \
             {old:x} new_spte {new:x}"
        ),
        Tracepoint::SetSpte { gfn, level, spte, place } => format!(
            "kvmmmu:kvm_mmu_set_spte: gfn {gfn:x} spte {spte:x} (rwxu) level {level} at {place:x}"
        ),
        Tracepoint::SpteRequested { gfn, pfn, level } => {
            format!("kvmmmu:kvm_mmu_spte_requested: gfn {gfn:x} pfn {pfn:x} level {level}")
        }
        Tracepoint::WriteTscOffset { vcpu, previous } => {
            format!("kvm:kvm_write_tsc_offset: vcpu={vcpu} prev={previous} ")
        }
        Tracepoint::UnmapHva => "mmu notifier ".to_owned(),
        other => panic!("{other:?} is not in the log"),
    }
}

#[test]
fn each_event_is_as_perf_script_has_it() {
    let (batch, err) = read_all(open(SVM).unwrap());
    assert!(err.is_none() && batch.skipped == Skipped::default(), "{:?} {err:?}", batch.skipped);
    let mut lines = SCRIPT.lines();
    for record in &batch.records {
        let what = told(record.event);
        // Those between are others.
        let line = lines.find(|line| line.contains(&what)).expect(&what);
        let time = format!(
            " {}.{:06}: ",
            record.time_ns / 1_000_000_000,
            record.time_ns / 1000 % 1_000_000
        );
        assert!(line.contains(&time), "{time} {line}");
        assert!(line.contains(&format!(" {} [000] ", record.tid)), "{} {line}", record.tid);
    }
    let is_ours = |line: &&str| OURS.iter().any(|name| line.contains(name));
    assert_eq!(batch.records.len(), SCRIPT.lines().filter(is_ours).count());
    let others = SCRIPT.lines().count() - batch.records.len();
    assert_eq!(batch.others, others as u64);
    assert!(batch.records.iter().all(|record| record.tgid == 103));
}

/// Those of the log.
const OURS: [&str; 11] = [
    "kvm:kvm_entry:",
    "kvm:kvm_exit:",
    "kvm:kvm_page_fault:",
    "kvm:kvm_unmap_hva_range:",
    "kvm:kvm_set_spte_hva:",
    "kvm:kvm_write_tsc_offset:",
    "kvmmmu:kvm_mmu_get_page:",
    "kvmmmu:kvm_mmu_prepare_zap_page:",
    "kvmmmu:kvm_mmu_set_spte:",
    "kvmmmu:kvm_mmu_spte_requested:",
    "kvmmmu:kvm_tdp_mmu_spte_changed:",
];

#[test]
fn a_pipe_has_what_the_file_has() {
    let samples = writer::samples().concat();
    let expected = read_whole(open(SVM));
    assert_eq!(read_whole(open(&writer::file(&samples))), expected);
    assert_eq!(read_whole(stream(writer::pipe(&samples))), expected);
}

#[test]
fn compressed_records_are_as_they_were() {
    let expected = read_whole(open(SVM));
    let samples = writer::samples();
    for most in [16, 1000, 0xffff - 16] {
        let mut compressor = Compressor::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for round in samples.chunks(10) {
            let compressed = compressor.compress(&round.concat());
            let pieces = compressed.chunks(most);
            first.extend(pieces.flat_map(|it| writer::record(kinds::COMPRESSED, it)));
            first.extend(END_OF_ROUND);
            second.extend(writer::sized_pieces(&compressed, most));
            second.extend(END_OF_ROUND);
        }
        assert_eq!(read_whole(open(&writer::file(&first))), expected);
        assert_eq!(read_whole(stream(writer::pipe(&second))), expected);
    }
}

/// A buffer may wrap in the midst of a record, and then both parts are compressed one by one.
#[test]
fn a_record_may_be_compressed_in_two_parts() {
    let samples = writer::samples().concat();
    let mut compressor = Compressor::new();
    let parts = samples.chunks(1001).map(|part| compressor.compress(part));
    let records: Vec<_> = parts.flat_map(|it| writer::record(kinds::COMPRESSED, &it)).collect();
    assert_eq!(read_whole(open(&writer::file(&records))), read_whole(open(SVM)));
}

#[test]
fn pieces_that_perf_took_for_one_are_read() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 32).to_le_bytes()
    };
    // Between the samples is what cannot be compressed, of a type that does not matter.
    let noise = writer::samples().into_iter().map(|sample| {
        let noise: Vec<_> = (0..300).flat_map(|_| random()).collect();
        [sample, writer::record(1, &noise)].concat()
    });
    let records: Vec<_> = noise.flatten().collect();
    let mut compressor = Compressor::new();
    let first = compressor.compress(&records);
    assert!(first.len() > 2 * 0xffff, "three pieces at least");
    // Exactly one full piece, whose padded size has no room, in the midst of others.
    let second = compressor.compress(&records);
    let (before, full) = second.split_at(1000);
    let (full, after) = full.split_at(0xffff - 16);
    let parts = [&first[..], before, full, after];
    let pieces: Vec<_> = parts.into_iter().flat_map(writer::pieces_as_one).collect();
    let expected = read_whole(open(&writer::file(&[&records[..], &records].concat())));
    assert_eq!(expected.len(), 2 * read_whole(open(SVM)).len());
    assert_eq!(read_whole(stream(writer::pipe(&pieces))), expected);
}

#[test]
fn perf_data_is_recognised() {
    assert_eq!(recognise(SVM), Some(Ok(Kind::File)));
    assert_eq!(recognise(&SVM[..16]), Some(Ok(Kind::File)));
    assert_eq!(recognise(&writer::pipe(&[])), Some(Ok(Kind::Pipe)));
    assert_eq!(recognise(b"\x17\x08\x44tracing6\0"), None);
    assert_eq!(recognise(b"PERF"), None);
    for (head, why) in [
        (&b"2ELIFREP\0\0\0\0\0\0\0\x68"[..], "big-endian"),
        (b"PERFFILE\x68\0\0\0\0\0\0\0", "version 1"),
        (b"PERFILE2\x48\0\0\0\0\0\0\0", "72 bytes"),
        (b"PERFILE2\x48", "ends"),
    ] {
        let refused = recognise(head).unwrap().unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn the_clock_is_told() {
    assert_eq!(open(SVM).unwrap().clock(), Some("perf"));
    for (clock, name) in [(1, Some("mono")), (4, Some("mono_raw")), (2, None)] {
        let flags = bytes::u64_at(&writer::attrs()[0].attr, 40).unwrap();
        let attr = writer::attrs()[0].clone().with(40, flags | 1 << 25).with(88, clock << 32);
        let mut reader = stream(writer::pipe_of(&[attr], writer::formats(), &[])).unwrap();
        assert_eq!(reader.clock(), None);
        reader.read(&mut Batch::default()).unwrap();
        assert_eq!(reader.clock(), name);
    }
}

/// More than is kept of it at a time.
#[test]
fn much_may_be_compressed_into_little() {
    let entry = &writer::samples_of("kvm_entry")[0];
    let nothing = writer::record(1, &vec![0; 0xffe0]);
    let records = [&entry[..], &nothing.repeat(300), entry, &END_OF_ROUND].concat();
    let compressed = Compressor::new().compress(&records);
    assert!(compressed.len() < 1 << 14 && records.len() > 19_000_000);
    let pieces = writer::sized_pieces(&compressed, 0xffff - 24);
    assert_eq!(read_whole(stream(writer::pipe(&pieces))).len(), 2);
}
