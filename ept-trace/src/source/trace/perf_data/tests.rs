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
    let all = batch.records.len() as u64 + batch.others;
    assert_eq!((batch.records.len(), all), (47, SCRIPT.lines().count() as u64));
    assert!(batch.records.iter().all(|record| record.tgid == 103));
}
