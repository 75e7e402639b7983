//! Logs that are torn, damaged, or without bounds.

use super::*;

#[test]
fn what_is_torn_ends_as_what_was_seen() {
    // Another begins.
    let half: Vec<_> = VMCS.lines().take(42).collect();
    let twice = format!("{}\n{VMCS}", half.join("\n"));
    let dumps_of_both = dumps(&twice);
    assert_eq!(dumps_of_both.len(), 2);
    assert_eq!((dumps_of_both[0].exit_reason, dumps_of_both[0].eptp), (Some(0x8000_0021), None));
    assert_eq!(dumps_of_both[1], dumps(VMCS)[0]);
    // The log ends.
    assert_eq!(dumps(&half.join("\n")), dumps_of_both[..1]);
    // Others print, and what comes after that is not of it.
    let lines = half.into_iter().chain(std::iter::repeat_n("[  674.0] usb 1-1: new device", 300));
    let late = lines.chain(["[  675.0] kvm_intel: EPT pointer = 0x000000011c4f505e"]);
    let late: Vec<_> = late.collect();
    let torn = dumps(&late.join("\n"));
    assert_eq!(torn[0], dumps_of_both[0]);
    assert_eq!((torn[1].vmcs, torn[1].eptp), (None, Some(0x1_1c4f_505e)));
}

#[test]
fn a_number_that_cannot_be_read_is_named_with_its_line() {
    let bad = VMCS.replace("EPT pointer = 0x000000011c4f505e", "EPT pointer = 0x00000001!c4f505e");
    let bad = bad.replace("0x00000001!", "0x0000000g1");
    let (events, skipped) = read(bad.as_bytes());
    assert_eq!(skipped.first, ["line 47: the EPT pointer of a VMCS is no number"]);
    let EventKind::VmcsDump(dump) = &events[0].kind else { panic!("a dump") };
    assert_eq!((dump.eptp, dump.exit_reason), (None, Some(0x8000_0021)), "the rest is kept");
    for (line, why) in [
        ("VMCS xyz, last attempted VM-entry on CPU 3", "the address of a VMCS is no number"),
        ("EPT pointer = ", "the EPT pointer of a VMCS is no number"),
        (
            "get_mmio_spte: reserved bits set on MMU-present spte, addr zz, hierarchy:",
            "the address of a hierarchy is no number",
        ),
        ("#VE zz, spte[4] = 0x1", "the address of a #VE is no number"),
        ("#VE 1000, spte[4] = zz", "an entry of a hierarchy cannot be read"),
    ] {
        let (events, skipped) = read(line.as_bytes());
        assert_eq!((events.len(), &skipped.first[0]), (0, &format!("line 1: {why}")), "{line}");
    }
}

#[test]
fn no_damage_does_harm() {
    // Splitmix64.
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ bits >> 31) % below as u64).unwrap()
    };
    for round in 0..2000 {
        let mut log = ALL[round % ALL.len()].as_bytes().to_vec();
        for _ in 0..=random(8) {
            let at = random(log.len());
            match random(4) {
                0 => log[at] = random(256).to_le_bytes()[0],
                1 if log.len() > 1 => drop(log.remove(at)),
                2 => log.insert(at, b"0fx[]:,<>\" \n\\"[random(13)]),
                _ => log.truncate(at.max(1)),
            }
        }
        recognise(&log);
        let (events, _) = read(&log);
        assert!(events.len() < 40, "{}", events.len());
    }
}

#[test]
fn memory_stays_bounded() {
    // A line without end is one line; what would never be whole is given up.
    let mut log =
        b"get_mmio_spte: reserved bits set on MMU-present spte, addr 0x1, hierarchy:".to_vec();
    log.resize(1 << 20, b'x');
    log.extend(b"\nEPT pointer = 0x5e\n");
    let (events, _) = read(&log);
    assert_eq!(events.len(), 2);
    let EventKind::Complaint { text, .. } = &events[0].kind else { panic!("{events:?}") };
    assert!(text.len() <= 512);
    let heads = (0..10_000).map(|thread| format!("[1.0][T{thread}] *** Guest State ***\n"));
    let log: String = heads.collect();
    let mut messages = Messages::new(Box::new(io::Cursor::new(log)));
    messages.read(&mut Told::default()).unwrap();
    assert!(messages.open.len() <= MOST_OPEN);
}

#[test]
fn what_was_read_before_a_failure_is_told_first() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let mut messages = Messages::new(Box::new(b"EPT pointer = 0x5e\n".chain(Fails)));
    let mut told = Told::default();
    messages.read(&mut told).unwrap();
    assert_eq!(told.events.len(), 1);
    assert_eq!(messages.read(&mut Told::default()).unwrap_err().to_string(), "gone");
}
