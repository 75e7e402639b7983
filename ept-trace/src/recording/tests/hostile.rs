//! Files that were made to do harm, and files of other versions.

use super::super::layout::{FRAME, Frame, MOST_FRAME, VERSION, crc, kind};
use super::*;

/// A frame as a program might write it that means it.
fn frame(frame: Frame, stored: &[u8]) -> Vec<u8> {
    let stored_length = u32::try_from(stored.len()).expect("short");
    let frame = Frame { stored: stored_length, crc: crc(stored), tag: header().tag(), ..frame };
    [&frame.encode()[..], stored].concat()
}

/// A frame of lines.
fn lines(before: u64, text: &str) -> Vec<u8> {
    let stored = zstd::bulk::compress(text.as_bytes(), 1).expect("memory");
    let count = u32::try_from(text.lines().count()).expect("short");
    let text = u32::try_from(text.len()).expect("short");
    frame(Frame { kind: kind::OBSERVATIONS, count, text, before, ..Frame::default() }, &stored)
}

fn line(event: &Event) -> String {
    serde_json::to_string(event).expect("memory") + "\n"
}

/// A recording of the first two changes, with something in between.
fn between(what: &[u8]) -> Vec<u8> {
    let head = recording(&[], 1);
    let end = line(&changes()[1]) + &line(&event(99, EventKind::End));
    [&head, &lines(0, &line(&changes()[0]))[..], what, &lines(1, &end)].concat()
}

#[test]
fn a_frame_cannot_become_larger_than_it_says() {
    let stored = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("memory");
    assert!(stored.len() < 10_000);
    for text in [0, 1, 100, 4 << 20] {
        let bomb =
            Frame { kind: kind::OBSERVATIONS, count: 1, text, before: 1, ..Frame::default() };
        let told = read(&between(&frame(bomb, &stored)));
        assert_eq!(told.len(), 4);
        assert!(gaps(&told)[0].contains("cannot be decompressed"), "{told:?}");
    }
    let too_large = u32::try_from(MOST_FRAME + 1).expect("fits");
    for (stored, text) in [(too_large, 1), (1, too_large), (u32::MAX, u32::MAX)] {
        let huge = Frame { kind: 1, stored, text, tag: header().tag(), ..Frame::default() };
        let told = read(&between(&huge.encode()));
        assert!(gaps(&told)[0].contains("the header of a frame is damaged"), "{told:?}");
        assert_eq!(told.len(), 4);
    }
}

#[test]
fn frames_in_frames_do_not_take_for_ever() {
    // Each says that it has 4 MiB, which are the frames after it. To sum them all is 2 TB.
    let most = u32::try_from(MOST_FRAME).expect("fits");
    let nested = Frame { kind: 1, stored: most, text: 1, ..Frame::default() }.encode();
    let bytes = nested.repeat((32 << 20) / FRAME);
    assert_eq!(gaps(&read(&between(&bytes))).len(), 1);
}

#[test]
fn counts_that_are_wrong_are_told() {
    for (count, before) in [(0, 1), (2, 1), (u32::MAX, 1), (1, u64::MAX), (1, 0)] {
        let text = line(&changes()[1]);
        let stored = zstd::bulk::compress(text.as_bytes(), 1).expect("memory");
        let text = u32::try_from(text.len()).expect("short");
        let wrong = Frame { kind: 1, count, text, before, ..Frame::default() };
        let told = read(&between(&frame(wrong, &stored)));
        assert!(!gaps(&told).is_empty(), "{count} {before}: {told:?}");
    }
}

#[test]
fn a_frame_of_another_recording_is_passed_over() {
    let memory = Memory::default();
    let other = Header { session: "another".to_owned(), ..header() };
    let mut writer = Writer::new(memory.clone(), other, None).expect("memory");
    write(&mut writer, &[change(5, 8)], 1);
    drop(writer);
    let bytes = memory.bytes();
    let frame = bytes.windows(4).position(|mark| mark == b"\xf5EPF").expect("a frame");
    let told = read(&between(&bytes[frame..]));
    assert!(gaps(&told)[0].contains("a frame of another recording; 0 obs"), "{told:?}");
    assert!(told.iter().all(|event| event.kind.vm() != Some(8)), "{told:?}");
}

#[test]
fn an_observation_that_is_not_known_is_a_gap_and_the_next_is_read() {
    let unknown = "{\"time_ns\":3,\"event\":\"invented_later\",\"vm\":9}\n";
    let text = [unknown, "nonsense\n", &line(&change(50, 9)), unknown].concat();
    let told = read(&between(&[lines(1, &text), lines(5, &line(&change(51, 9)))].concat()));
    let gaps = gaps(&told);
    assert!(gaps[0].contains("2 observations are not known: unknown variant"), "{gaps:?}");
    assert!(gaps[1].contains("1 observations are not known"), "{gaps:?}");
    let of_9: Vec<_> = told.iter().filter(|event| event.kind.vm() == Some(9)).collect();
    assert!(
        of_9.iter().all(
            |event| matches!(&event.kind, EventKind::SpteChange(change) if !change.from_start)
        ),
        "{of_9:?}"
    );
    assert_eq!(of_9.len(), 2);
}

#[test]
fn what_a_later_minor_version_adds_is_passed_over() {
    let bytes =
        between(&frame(Frame { kind: 77, before: 1, count: 5, ..Frame::default() }, b"new"));
    assert_eq!(gaps(&read(&bytes)), Vec::<&str>::new());
    let json = br#"{"session":"a test","invented_later":[1]}"#;
    let (head, rest) = bytes.split_at(recording(&[], 1).len());
    let bytes = [with_version(head, json, 1, 9), rest.to_vec()].concat();
    assert_eq!(read(&bytes).len(), 3);
    assert_eq!(gaps(&read(&bytes)), Vec::<&str>::new());
    let header = Header::read(&mut &bytes[..]).expect("a header");
    assert_eq!(header.version.to_string(), "1.9");
}

/// A header with this JSON, of another version.
fn with_version(head: &[u8], json: &[u8], major: u16, minor: u16) -> Vec<u8> {
    let length = u32::try_from(json.len()).expect("short");
    let rest = [&major.to_le_bytes()[..], &minor.to_le_bytes(), &length.to_le_bytes(), json];
    [&head[..8], &crc(&rest.concat()).to_le_bytes(), &rest.concat()].concat()
}

#[test]
fn a_later_major_version_is_refused_with_what_to_do() {
    assert_eq!(VERSION.major, 1, "this test is for version 1");
    let bytes = with_version(&recording(&[], 1), b"whatever it is", 2, 3);
    for err in [read_all(&bytes[..]).err(), Header::read(&mut &bytes[..]).err()] {
        let err = err.expect("refused");
        assert_eq!(err.kind(), io::ErrorKind::Unsupported);
        let words = "a recording of format 2.3, and this program reads 1.0: use a newer ept-trace";
        assert_eq!(err.to_string(), words);
    }
}

#[test]
fn a_header_that_is_none_is_refused() {
    let bytes = recording(&[], 1);
    for (at, kind) in [(0, io::ErrorKind::InvalidData), (13, io::ErrorKind::InvalidData)] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(Header::read(&mut &bytes[..]).err().map(|err| err.kind()), Some(kind));
    }
    let cut = Header::read(&mut &bytes[..30]).err().map(|err| err.kind());
    assert_eq!(cut, Some(io::ErrorKind::UnexpectedEof));
}
