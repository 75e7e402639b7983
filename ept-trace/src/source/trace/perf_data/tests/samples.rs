//! Samples that are laid out in other ways, and records that tell of events that are missing.

use super::*;
use crate::source::trace::perf_data::bytes::u64_at;

const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const ADDR: u64 = 1 << 3;
const READ: u64 = 1 << 4;
const CALLCHAIN: u64 = 1 << 5;
const ID: u64 = 1 << 6;
const RAW: u64 = 1 << 10;
const BRANCH_STACK: u64 = 1 << 11;
const IDENTIFIER: u64 = 1 << 16;

/// Offsets in an attribute.
const PERIOD: usize = 16;
const SAMPLE_TYPE: usize = 24;
const READ_FORMAT: usize = 32;
const FLAGS: usize = 40;

/// A sample of the real log, laid out in another way.
fn laid_out(sample: &[u8], sample_type: u64, read_format: u64) -> Vec<u8> {
    // identifier, ip, tid, time, cpu, period, and the event.
    let word = |at| vec![u64_at(sample, at).unwrap()];
    let has = |bits: u64| (read_format & bits).count_ones() as usize;
    let read = match read_format & 8 {
        0 => vec![7; 1 + has(0b10111)],
        // A group of three.
        _ => [&[3][..], &vec![7; has(0b11) + 3 * (1 + has(0b10100))]].concat(),
    };
    let fields = [
        (IDENTIFIER, word(8)),
        (1, word(16)),
        (TID, word(24)),
        (TIME, word(32)),
        (ADDR, vec![0xadd]),
        (ID, word(8)),
        (1 << 9, vec![0x57]),
        (1 << 7, word(40)),
        (1 << 8, word(48)),
        (READ, read),
        (CALLCHAIN, vec![2, 0xffffffff80000000, 0xffffffff80001000]),
    ];
    let mut content: Vec<_> = fields
        .into_iter()
        .filter(|(bit, _)| sample_type & bit != 0)
        .flat_map(|(_, words)| words.into_iter().flat_map(u64::to_le_bytes))
        .collect();
    content.extend(&sample[56..]);
    if sample_type & BRANCH_STACK != 0 {
        content.extend(0_u64.to_le_bytes());
    }
    writer::record(kinds::SAMPLE, &content)
}

/// The first attribute of the real log, for samples that are laid out so.
fn attr(sample_type: u64, read_format: u64) -> writer::Attr {
    let attr = writer::attrs()[0].clone();
    attr.with(SAMPLE_TYPE, sample_type).with(READ_FORMAT, read_format)
}

fn pipe(attrs: &[writer::Attr], records: &[u8]) -> io::Result<PerfData> {
    stream(writer::pipe_of(attrs, writer::formats(), records))
}

#[test]
fn samples_are_found_however_they_are_laid_out() {
    let expected = read_whole(open(SVM));
    let all = IDENTIFIER | ADDR | ID | 1 << 9 | 1 << 7 | 1 << 8 | 1 | TID | TIME | RAW;
    for (sample_type, read_format) in [
        (TID | TIME | RAW, 0),
        (all, 0),
        (all | CALLCHAIN, 0),
        (all | READ, 0b111),
        (all | READ | CALLCHAIN, 0b11111),
        (TID | TIME | READ | RAW | BRANCH_STACK, 0b11100),
    ] {
        let samples = writer::samples();
        let records = samples.iter().flat_map(|it| laid_out(it, sample_type, read_format));
        let records: Vec<_> = records.collect();
        let told = read_whole(pipe(&[attr(sample_type, read_format)], &records));
        assert_eq!(told, expected, "{sample_type:#x} {read_format:#b}");
    }
}

#[test]
fn without_a_thread_it_is_that_of_the_event() {
    let samples = writer::samples();
    let records: Vec<_> = samples.iter().flat_map(|it| laid_out(it, TIME | RAW, 0)).collect();
    let told = read_whole(pipe(&[attr(TIME | RAW, 0)], &records));
    let expected = read_whole(open(SVM)).into_iter().map(|record| Record { tgid: 0, ..record });
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// `perf record -g -e kvm:kvm_entry/call-graph=no/ ...`, and an event of BPF, which is raw as well.
#[test]
fn samples_that_differ_are_told_apart_by_their_id() {
    let (plain, calls) = (IDENTIFIER | TID | TIME | RAW, IDENTIFIER | TID | TIME | RAW | CALLCHAIN);
    let with_id =
        |attr: writer::Attr, id: u64| writer::Attr { ids: id.to_le_bytes().to_vec(), ..attr };
    let dummy = attr(TID | TIME, 0).with(0, 128 << 32 | 1).with(8, 9);
    let bpf = attr(plain, 0).with(0, 128 << 32 | 1).with(8, 10);
    let attrs = [
        with_id(dummy, 70),
        with_id(attr(plain, 0), 71),
        with_id(attr(calls, 0), 72),
        with_id(bpf, 73),
    ];
    let samples = writer::samples();
    let identified = |number: usize, sample: &Vec<u8>| {
        let id = 71 + number as u64 % 3;
        let mut sample = sample.clone();
        sample[8..16].copy_from_slice(&id.to_le_bytes());
        (id, laid_out(&sample, if id == 72 { calls } else { plain }, 0))
    };
    let all: Vec<_> = samples.iter().enumerate().map(|(at, it)| identified(at, it)).collect();
    let records: Vec<_> = all.iter().flat_map(|(_, record)| record.clone()).collect();
    let without_bpf = samples.iter().zip(&all).filter(|(_, (id, _))| *id != 73);
    let without_bpf: Vec<_> = without_bpf.flat_map(|(sample, _)| sample.clone()).collect();
    let expected = read_whole(open(&writer::file(&without_bpf)));
    assert_eq!(read_whole(pipe(&attrs, &records)), expected);

    // Of an event that no attribute has.
    let mut unknown = laid_out(&samples[0], plain, 0);
    unknown[8..16].copy_from_slice(&99_u64.to_le_bytes());
    let (batch, err) = read_all(pipe(&attrs, &unknown).unwrap());
    assert!(err.is_none());
    assert_eq!(batch.skipped.count, 1);
    assert!(matches!(batch.records[..], [Record { event: Tracepoint::Lost { .. }, .. }]));

    // Without an ID, or with it at different places, they cannot.
    for other in [attr(TID | TIME | RAW, 0), attr(ID | TID | TIME | RAW, 0)] {
        let (_, err) = read_all(pipe(&[attrs[1].clone(), other], &records).unwrap());
        assert!(err.unwrap().to_string().contains("told apart"));
    }
}

#[test]
fn where_events_were_left_out_each_stands_for_itself() {
    let samples = writer::samples_of("kvm_entry");
    let every_tenth = writer::attrs()[0].clone().with(PERIOD, 10);
    let frequency = writer::attrs()[0].clone().with(FLAGS, 1 << 10 | 1 << 18);
    for attr in [every_tenth, frequency] {
        let (batch, err) = read_all(pipe(&[attr], &samples.concat()).unwrap());
        assert!(err.is_none());
        assert_eq!(batch.skipped.count, 1);
        assert!(batch.skipped.first[0].contains("-F, -c"), "{:?}", batch.skipped);
        assert_eq!(batch.records.len(), 2 * samples.len());
        for two in batch.records.chunks(2) {
            assert_eq!(two[0].event, Tracepoint::Lost { events: None });
            assert!(matches!(two[1].event, Tracepoint::Entry { .. }));
        }
    }
}

fn entry(time: u64, cpu: u32) -> Vec<u8> {
    writer::at(writer::samples_of("kvm_entry")[0].clone(), time, cpu)
}

/// `PERF_RECORD_LOST`, or another record with an ID and a number, of this time.
fn lost(kind: u32, words: &[u64], time: u64, cpu: u32) -> Vec<u8> {
    let mut content: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    content.extend(writer::trailer(time, cpu));
    writer::record(kind, &content)
}

/// Times, with what is lost.
fn outline(records: &[Record]) -> Vec<(u64, Option<Tracepoint>)> {
    let outline = records.iter().map(|record| match record.event {
        lost @ Tracepoint::Lost { .. } => (record.time_ns, Some(lost)),
        _ => (record.time_ns, None),
    });
    outline.collect()
}

const NO_MORE: Option<Tracepoint> = Some(Tracepoint::Lost { events: Some(0) });

/// CPU 1 has no room from 20 to 40.
#[test]
fn lost_events_are_told_where_they_would_be() {
    let records = [
        entry(10, 0),
        entry(30, 0),
        entry(50, 0),
        entry(11, 1),
        entry(20, 1),
        lost(kinds::LOST, &[11, 5], 40, 1),
        entry(40, 1),
        END_OF_ROUND.to_vec(),
    ];
    let told = read_whole(open(&writer::file(&records.concat())));
    let expected = [
        (10, None),
        (11, None),
        (20, None),
        (30, NO_MORE),
        (30, None),
        (40, Some(Tracepoint::Lost { events: Some(5) })),
        (40, None),
        (50, None),
    ];
    assert_eq!(outline(&told), expected);
}

/// perf counts what was lost once more when it ends, without a time; and what was lost after the
/// last event of a buffer only then.
#[test]
fn lost_events_are_told_once() {
    let counted = |events| lost(kinds::LOST_SAMPLES, &[events], 0, 0);
    let records = [entry(10, 0), lost(kinds::LOST, &[11, 5], 20, 0), entry(30, 0)].concat();
    let told = |end: Vec<u8>| {
        let told = read_whole(open(&writer::file(&[&records[..], &end].concat())));
        let lost = told.into_iter().filter_map(|record| match record.event {
            Tracepoint::Lost { events } => events,
            _ => None,
        });
        lost.sum::<u64>()
    };
    assert_eq!(told(Vec::new()), 5);
    assert_eq!(told([counted(2), counted(3)].concat()), 5);
    assert_eq!(told([counted(2), counted(4)].concat()), 6);
}

#[test]
fn a_throttled_event_is_lost() {
    let records = [
        entry(10, 0),
        lost(kinds::THROTTLE, &[15, 11, 11], 15, 0),
        entry(20, 0),
        lost(kinds::UNTHROTTLE, &[25, 11, 11], 25, 0),
        entry(30, 0),
    ];
    let told = outline(&read_whole(open(&writer::file(&records.concat()))));
    let lost = Some(Tracepoint::Lost { events: None });
    let expected =
        [(10, NO_MORE), (10, None), (15, lost), (20, NO_MORE), (20, None), (25, lost), (30, None)];
    assert_eq!(told, expected);
}
