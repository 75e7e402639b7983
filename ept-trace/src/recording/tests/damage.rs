//! Whatever happens to the bytes: nothing wrong is told, and what is missing is.

use super::*;

/// What is told of damaged bytes is what was written, or has a gap. No VM of which an observation is
/// missing has changes from its start.
fn assert_honest(written: &[Event], bytes: &[u8], what: &dyn std::fmt::Debug) -> Vec<Event> {
    let told = read(bytes);
    if told == written {
        return told;
    }
    assert!(!gaps(&told).is_empty(), "{what:?}: {told:#?}");
    let mut rest = written.iter();
    let mut missing = Vec::new();
    for told in &told {
        if gaps(std::slice::from_ref(told)).is_empty() {
            let next = rest.find(|written| {
                let is_it = written.time_ns == told.time_ns;
                if !is_it {
                    missing.push(written.kind.vm());
                }
                is_it
            });
            let mut next = next.unwrap_or_else(|| panic!("{what:?}: {told:?}")).clone();
            if let (EventKind::SpteChange(next), EventKind::SpteChange(told)) =
                (&mut next.kind, &told.kind)
            {
                assert!(!told.from_start || !missing.contains(&told.vm), "{what:?}: {told:?}");
                next.from_start &= told.from_start;
            }
            assert_eq!(*told, next, "{what:?}");
        }
    }
    told
}

#[test]
fn a_recording_cut_at_any_byte() {
    for in_a_frame in [1, 4] {
        let bytes = recording(&changes(), in_a_frame);
        for length in 0..bytes.len() {
            assert_honest(&changes(), &bytes[..length], &length);
            assert_honest(&changes(), &bytes[length..], &-1);
        }
    }
}

#[test]
fn any_byte_changed() {
    let in_a_frame = 4;
    let bytes = recording(&changes(), in_a_frame);
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            let told = assert_honest(&changes(), &bytes, &(at, change));
            // But for one frame, all is told.
            assert!(told.len() + in_a_frame > changes().len(), "{at}: {told:#?}");
            assert!(recognise(&bytes), "{at}");
        }
    }
}

#[test]
fn bytes_missing_anywhere_or_too_many() {
    let bytes = recording(&changes(), 3);
    for at in 0..bytes.len() {
        for length in [1, 7, 100] {
            let end = (at + length).min(bytes.len());
            let shorter = [&bytes[..at], &bytes[end..]].concat();
            let told = assert_honest(&changes(), &shorter, &(at, -1, length));
            // The frame after the one that lacks bytes is told.
            assert!(length > 1 || told.len() + 3 > changes().len(), "{at}: {told:#?}");
            let noise = &bytes[bytes.len() - length..];
            let longer = [&bytes[..at], noise, &bytes[at..]].concat();
            assert_honest(&changes(), &longer, &(at, length));
        }
    }
}

#[test]
fn parts_that_are_damaged_at_random() {
    let memory = Memory::default();
    let mut writer = Writer::new(memory.clone(), header(), Some(300)).expect("memory");
    write(&mut writer, &changes(), 1);
    drop(writer);
    assert!(memory.parts().len() > 3);
    let mut random = Random(7);
    for _ in 0..5000 {
        let mut bytes = memory.bytes();
        for _ in 0..=random.below(4) {
            let at = random.index(bytes.len());
            match random.below(3) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => {
                    let end = (at + random.index(400)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        assert_honest(&changes(), &bytes, &bytes.len());
    }
}

#[test]
fn a_gap_says_where_it_is_and_how_much_is_missing() {
    let mut bytes = recording(&changes(), 4);
    let mut frames = bytes.windows(4).enumerate().filter(|(_, mark)| *mark == b"\xf5EPF");
    let (second, _) = frames.nth(1).expect("four frames");
    bytes[second + 70] ^= 1;
    let told = read(&bytes);
    let place = format!("offset {second:#x}: what is in a frame is damaged");
    assert_eq!(gaps(&told), [format!("{place}; 4 observations are missing")]);
    // In its place, with the time of the last one before.
    assert_eq!((told[4].time_ns, gaps(&told[4..5]).len()), (13, 1));
    // Of VMs 1 and 2 something may be missing, and VM 3 began after that.
    let from_start = |event: &Event| match &event.kind {
        EventKind::SpteChange(change) => Some((change.vm?, change.from_start)),
        _ => None,
    };
    let after: Vec<_> = told[5..].iter().filter_map(from_start).collect();
    assert_eq!(after, [(3, true), (1, false), (3, true), (3, true), (2, false), (3, true)]);
}

#[test]
fn what_is_no_recording_is_one_gap() {
    let mut random = Random(3);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.below(256).to_le_bytes()[0]).collect();
    assert!(!recognise(&noise[..4096]));
    let told = read(&noise);
    assert_eq!(
        gaps(&told),
        [
            "offset 0x0: there is no frame where one should be; the file was cut off here: its end is \
          missing"
        ]
    );
    assert_eq!(gaps(&read(&[])), ["the file was cut off here: its end is missing"]);
}
