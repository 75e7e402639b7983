//! Files that are cut off or damaged: nothing more is lost than what is told.

use super::*;

/// Events of two CPUs in three rounds.
const EVENTS: usize = 24;

fn records() -> Vec<Vec<u8>> {
    let events = ["kvm_entry", "kvm_tdp_mmu_spte_changed"].map(writer::samples_of).concat();
    let round = |round: u64| {
        let event = |number: u32| {
            let (cpu, number) = (number / 4, number % 4);
            let time = 1000 * round + u64::from(10 * number + cpu);
            writer::at(events[number as usize * 4].clone(), time, cpu)
        };
        (0..8).map(event).chain([END_OF_ROUND.to_vec()]).collect::<Vec<_>>()
    };
    (1..=3).flat_map(round).collect()
}

/// A short pipe, and where its records begin.
fn pipe(records: &[u8]) -> (Vec<u8>, usize) {
    let pipe = writer::pipe_of(&writer::attrs()[..1], &writer::two_formats(), records);
    let begin = pipe.len() - records.len();
    (pipe, begin)
}

/// What is read of it; the events, and whether loss is told.
fn read_damaged(pipe: &[u8]) -> (Vec<Record>, bool, Batch, Option<io::Error>) {
    let (batch, err) = match stream(pipe.to_vec()) {
        Ok(reader) => read_all(reader),
        Err(err) => (Batch::default(), Some(err)),
    };
    let is_lost = |it: &&Record| matches!(it.event, Tracepoint::Lost { .. });
    let events: Vec<_> = batch.records.iter().filter(|it| !is_lost(it)).copied().collect();
    let is_told = events.len() < batch.records.len();
    (events, is_told, batch, err)
}

#[test]
fn a_pipe_that_is_cut_off_gives_what_it_has() {
    let records = records();
    let (pipe, begin) = pipe(&records.concat());
    assert_eq!(read_whole(stream(pipe.clone())).len(), EVENTS);
    for cut in 0..begin {
        let (events, ..) = read_damaged(&pipe[..cut]);
        assert!(events.is_empty());
    }
    let (mut end, mut there, mut rounds) = (begin, 0, 0);
    for record in &records {
        for cut in end + 1..=end + record.len() {
            let is_whole = cut == end + record.len();
            let is_event = record.len() > END_OF_ROUND.len();
            let (events, is_told, batch, err) = read_damaged(&pipe[..cut]);
            assert!(err.is_none());
            assert_eq!(events.len(), there + usize::from(is_whole && is_event), "{cut}");
            // In the first round nobody can know that there would be more.
            let is_known = if is_whole { is_event && rounds > 0 } else { true };
            assert_eq!(is_told, is_known, "{cut}");
            assert_eq!(batch.skipped.count > 0, is_known, "{cut}");
        }
        end += record.len();
        there += usize::from(record.len() > END_OF_ROUND.len());
        rounds += usize::from(record[..] == END_OF_ROUND);
    }
    assert_eq!((end, there), (pipe.len(), EVENTS));
}

#[test]
fn a_damaged_byte_hides_part_of_a_round_at_most() {
    let (pipe, begin) = pipe(&records().concat());
    let whole = read_whole(stream(pipe.clone()));
    for at in 0..pipe.len() {
        for damage in [1 << (at % 8), 0xff] {
            let mut pipe = pipe.clone();
            pipe[at] ^= damage;
            let (events, is_told, batch, err) = read_damaged(&pipe);
            if at < begin {
                continue;
            }
            assert!(err.is_none(), "{at} {damage:#x}: {err:?}");
            let missing = whole.iter().filter(|it| !events.contains(it)).count();
            assert!(missing <= EVENTS / 3, "{at} {damage:#x}: {missing} are missing");
            // One may have become another.
            assert!(missing <= 1 || is_told && batch.skipped.count > 0, "{at} {damage:#x}");
        }
    }
}

#[test]
fn what_is_compressed_may_be_damaged_and_cut_off() {
    let mut compressor = Compressor::new();
    let compressed = compressor.compress(&records().concat());
    let pieces = writer::sized_pieces(&compressed, 300);
    let (pipe, begin) = pipe(&pieces);
    assert_eq!(read_whole(stream(pipe.clone())).len(), EVENTS);
    for at in begin..pipe.len() {
        let (events, _, _, err) = read_damaged(&pipe[..at]);
        assert!(err.is_none() && events.len() <= EVENTS);
        for damage in [1 << (at % 8), 0xff] {
            let mut pipe = pipe.clone();
            pipe[at] ^= damage;
            let (.., err) = read_damaged(&pipe);
            assert!(err.is_none(), "{at} {damage:#x}: {err:?}");
        }
    }
    // Not zstd at all: nothing after that can be read.
    let mut pipe = pipe;
    pipe[begin + 16] ^= 1;
    let (events, is_told, batch, _) = read_damaged(&pipe);
    assert!(events.is_empty() && is_told);
    assert!(batch.skipped.first[0].contains("cannot be read"), "{:?}", batch.skipped);
}

#[test]
fn after_damage_it_is_read_on_at_the_end_of_the_round() {
    let mut records = records();
    // The size of the second record, in the first round.
    records[1][6..8].copy_from_slice(&[3, 0]);
    let (pipe, _) = pipe(&records.concat());
    let (events, is_told, batch, err) = read_damaged(&pipe);
    assert!(err.is_none() && is_told);
    assert_eq!(events.len(), 1 + EVENTS * 2 / 3);
    assert_eq!(batch.skipped.count, 1);
    let told = &batch.skipped.first[0];
    assert!(told.contains("type 9 and 3 bytes") && told.contains("read on from"), "{told}");
    let first = batch.records.iter().position(|it| *it == events[0]).unwrap();
    assert_eq!(batch.records[first - 1].event, Tracepoint::Lost { events: Some(0) });
}

/// The first record says that it goes on in pieces, which are not there.
#[test]
fn pieces_that_are_missing_hide_nothing_else() {
    let mut piece = writer::record(kinds::COMPRESSED2, &0x2_0000_u64.to_le_bytes());
    piece[6..8].copy_from_slice(&[16, 0]);
    let records = [vec![piece, END_OF_ROUND.to_vec()], records()].concat();
    let (events, is_told, batch, err) = read_damaged(&pipe(&records.concat()).0);
    assert!(err.is_none() && is_told);
    assert_eq!((events.len(), batch.skipped.count), (EVENTS, 1));
}

#[test]
fn an_event_that_cannot_be_decoded_is_one_that_is_lost() {
    let mut entry = writer::samples_of("kvm_entry")[0].clone();
    let time = bytes::u64_at(&entry, 32).unwrap();
    entry[60..62].copy_from_slice(&[0xff, 0xff]);
    let (_, _, batch, _) = read_damaged(&pipe(&entry).0);
    let lost = Tracepoint::Lost { events: Some(1) };
    assert_eq!(batch.records, [Record { time_ns: time, tid: 0, tgid: 0, event: lost }]);
    assert!(batch.skipped.first[0].contains("ID 65535"), "{:?}", batch.skipped);
}

#[test]
fn a_file_without_formats_is_refused_with_what_to_do() {
    let refused = |file: &[u8]| open(file).err().unwrap().to_string();
    // perf killed: it has not told how much there is.
    let mut killed = SVM.to_vec();
    killed[48..56].fill(0);
    assert!(refused(&killed).contains("Ctrl-C"));
    // A copy that is not whole, be it of the head, the records, or what follows.
    for cut in [0, 1, 103, 104, 5000, 30000, 53000, 60000, 100_000] {
        assert!(!refused(&SVM[..cut]).is_empty());
    }
    assert!(refused(&SVM[..30000]).contains("copy the file again"));
    let without_tracepoints = &mut SVM.to_vec()[..];
    without_tracepoints[72] = 0xfc;
    assert!(refused(without_tracepoints).contains("-e 'kvm:*'"));
    let in_a_directory = &mut SVM.to_vec()[..];
    in_a_directory[75] |= 1;
    assert!(refused(in_a_directory).contains("--threads"));
    // A pipe whose first sample comes before any format.
    let (.., err) =
        read_damaged(&[&b"PERFILE2\x10\0\0\0\0\0\0\0"[..], &records().concat()].concat());
    assert!(err.unwrap().to_string().contains("-e 'kvm:*'"));
}

#[test]
fn the_head_of_a_file_may_be_damaged() {
    // All of the header, the first attribute, where the formats are, and their begin.
    for at in (0..104).chain(992..1136).chain(52976..52992).chain(53344..53400) {
        let mut file = SVM.to_vec();
        file[at] ^= 1 << (at % 8);
        if let Ok(reader) = open(&file) {
            read_all(reader);
        }
    }
}

#[test]
fn sections_cannot_ask_for_more_than_there_is() {
    // The size of an attribute; of all; of the IDs of the first; of the formats.
    for at in [16, 32, 992 + 136, 52976 + 8] {
        for size in [u64::MAX, 1 << 62, 1 << 40, 1 << 32] {
            let mut file = SVM.to_vec();
            file[at..at + 8].copy_from_slice(&size.to_le_bytes());
            assert!(open(&file).is_err(), "{at} {size:#x}");
        }
    }
}
