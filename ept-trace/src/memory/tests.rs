//! The formats, on dumps of a live 5-level NPT: whole, cut off, and damaged.

use super::bytes::Opened;
use super::*;

const ELF: &[u8] = include_bytes!("../../../tests/corpus/dumps/npt5-mini.elf");
const KDUMP: &[u8] = include_bytes!("../../../tests/corpus/dumps/npt5-mini.kdump");
const MIXED: &[u8] = include_bytes!("../../../tests/corpus/dumps/npt5-mini.mixed.kdump");
const FLAT: &[u8] = include_bytes!("../../../tests/corpus/dumps/npt5-mini.kdump.flat");
const LIME: &[u8] = include_bytes!("../../../tests/corpus/dumps/npt5-mini.lime");

/// The entries that KVM's tracepoints showed (npt5-live-dump.trace.txt), root first: the table is
/// in the entry before, the value in the tracepoint.
const ENTRIES: [(u64, u64); 5] = [
    (0x32d1000, 0x32d0827),
    (0x32d0000, 0x32cf827),
    (0x32cf000, 0x32ce827),
    (0x32ce000, 0x32cd827),
    (0x32cd008, 0xbc32e67),
];

fn open(bytes: &[u8]) -> Result<Memory, Trouble> {
    Memory::of("dump".to_owned(), Box::new(bytes.to_vec()), None)
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).err().expect("refused").to_string()
}

/// What the dump says of the entries. What it says must be true.
fn honest(memory: &Memory) -> usize {
    let read = ENTRIES.map(|(at, value)| (value, memory.read_u64(Hpa(at))));
    read.into_iter().filter(|(value, read)| *read == Some(*value)).count()
}

#[test]
fn each_format_has_the_entries_that_the_tracepoints_showed() {
    for (bytes, format) in [
        (ELF, "ELF core"),
        (KDUMP, "kdump-compressed"),
        (MIXED, "kdump-compressed"),
        (FLAT, "kdump-compressed, flattened"),
        (LIME, "LiME"),
    ] {
        let memory = open(bytes).unwrap();
        assert_eq!(memory.format(), format);
        for (at, value) in ENTRIES {
            assert_eq!(memory.read_u64(Hpa(at)), Some(value), "{format} at {at:#x}");
        }
        // An entry that is 0 is not one that is missing, at the end of what is there as well.
        assert_eq!(memory.read_u64(Hpa(0x32d1ff8)), Some(0), "{format}");
        assert_eq!(memory.read_u64(Hpa(0x32d2000)), None, "{format}");
        assert_eq!(memory.read_u64(Hpa(0x32ccff8)), None, "{format}");
        assert_eq!(memory.read_u64(Hpa(u64::MAX - 7)), None, "{format}");
        assert!(memory.take_trouble().is_none() && memory.notes().is_empty(), "{format}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_or_says_so() {
    for (bytes, name) in [(ELF, "elf"), (KDUMP, "kdump"), (FLAT, "flat"), (LIME, "lime")] {
        // Every length in the headers, then some more.
        let lengths = (0..bytes.len()).filter(|at| *at < 500 || at % 97 == 0);
        for length in lengths.chain([bytes.len() - 1]) {
            let Ok(memory) = open(&bytes[..length]) else { continue };
            let right = honest(&memory);
            let last = memory.read_u64(Hpa(0xbc32ff8));
            let trouble = memory.take_trouble();
            let is_said = trouble.is_some() || !memory.notes().is_empty();
            let is_whole = right == ENTRIES.len() && last == Some(0);
            // LiME has no end: cut between two ranges it is whole.
            let is_between = name == "lime" && length % 0x1020 == 0;
            assert!(is_said || is_whole || is_between, "{name} cut off at {length}: {right}");
        }
    }
}

#[test]
fn a_damaged_byte_in_the_headers_does_no_harm() {
    for bytes in [ELF, KDUMP, MIXED, FLAT, LIME] {
        // Headers, sub-header, the writes of a flattened dump, descriptors, stored pages.
        let places = (0..600).chain(4096..4220).chain((4220..bytes.len()).step_by(61));
        for at in places.chain(0x6000..0x6160) {
            for flip in [0xff, 0x01, 0x80] {
                let mut damaged = bytes.to_vec();
                let Some(byte) = damaged.get_mut(at) else { continue };
                *byte ^= flip;
                if let Ok(memory) = open(&damaged) {
                    honest(&memory);
                    memory.read_u64(Hpa(u64::MAX - 7));
                }
            }
        }
    }
}

#[test]
fn a_damaged_page_is_named_with_its_place() {
    let mut damaged = KDUMP.to_vec();
    // The first page's descriptor says that it lies at 0x6090.
    damaged[0x6094] ^= 0xff;
    let memory = open(&damaged).unwrap();
    assert_eq!(memory.read_u64(Hpa(0x32cd008)), None);
    let trouble = memory.take_trouble().unwrap().to_string();
    assert!(trouble.starts_with("dump: offset 0x6090: the page at 0x32cd000: "), "{trouble}");
    assert_eq!(memory.read_u64(Hpa(0x32d1000)), Some(0x32d0827));
}

#[test]
fn pages_that_makedumpfile_left_out_are_missing() {
    // The second bitmap begins at block 2 + 4 / 2; 0x32d0 is the frame of the PML4.
    let mut partial = KDUMP.to_vec();
    partial[4 * 4096 + 0x32d0 / 8] &= !(1 << (0x32d0 % 8));
    partial[4096 + 8] = 31;
    // The descriptor of that page goes with it.
    let descriptors = 6 * 4096;
    partial.copy_within(descriptors + 4 * 24..descriptors + 6 * 24, descriptors + 3 * 24);
    let memory = open(&partial).unwrap();
    assert_eq!(memory.read_u64(Hpa(0x32d1000)), Some(0x32d0827));
    assert_eq!(memory.read_u64(Hpa(0x32d0000)), None);
    assert_eq!(memory.read_u64(Hpa(0x32cd008)), Some(0xbc32e67));
    assert!(memory.take_trouble().is_none());
    let why = memory.why_missing().unwrap();
    assert!(why.contains("-d 31") && why.contains("zeros"), "{why}");
}

#[test]
fn a_version_before_6_has_the_number_of_frames_in_32_bits() {
    let mut old = KDUMP.to_vec();
    old[8] = 5;
    old[4096 + 96..4096 + 104].fill(0);
    assert_eq!(honest(&open(&old).unwrap()), ENTRIES.len());
}

#[test]
fn a_part_of_a_split_dump_is_refused() {
    let mut part = KDUMP.to_vec();
    part[4096 + 12] = 1;
    assert!(refusal(&part).contains("--reassemble"));
}

#[test]
fn bitmaps_that_claim_more_than_there_is_are_refused() {
    let mut claims = KDUMP.to_vec();
    claims[4096 + 96..4096 + 104].fill(0xff);
    assert!(refusal(&claims).starts_with("offset 0x1b4: "));
    // As many as the blocks could hold, but the file does not.
    let mut claims = KDUMP.to_vec();
    claims[436..440].copy_from_slice(&0x1000_u32.to_le_bytes());
    assert!(refusal(&claims).contains("the file ends here"));
}

#[test]
fn pages_are_decompressed_as_other_programs_compress_them() {
    let text = include_bytes!("../../../LICENSE-APACHE");
    let stored: [(u32, &[u8]); 4] = [
        (1, include_bytes!("../../../tests/corpus/dumps/page.zlib")),
        (2, include_bytes!("../../../tests/corpus/dumps/page.lzo")),
        (4, include_bytes!("../../../tests/corpus/dumps/page.snappy")),
        (0x20, include_bytes!("../../../tests/corpus/dumps/page.zstd")),
    ];
    for (flags, stored) in stored {
        let mut decompressed = vec![0; 4096];
        page::decompress(flags, stored, &mut decompressed).unwrap();
        assert_eq!(decompressed, text[..4096], "flags {flags:#x}");
        // Too short, too long, and damaged in each byte.
        assert!(page::decompress(flags, stored, &mut [0; 4095]).is_err(), "flags {flags:#x}");
        assert!(page::decompress(flags, stored, &mut [0; 4097]).is_err(), "flags {flags:#x}");
        for at in 0..stored.len() {
            let mut damaged = stored.to_vec();
            damaged[at] ^= 0x55;
            let _ = page::decompress(flags, &damaged, &mut decompressed);
            assert!(page::decompress(flags, &stored[..at], &mut decompressed).is_err());
        }
    }
    assert!(page::decompress(3, &[0; 4096], &mut [0; 4096]).is_err());
}

#[test]
fn raw_memory_begins_at_0_or_where_its_map_says() {
    let mut raw = vec![0; 0x3000];
    raw[0x1008] = 7;
    let memory = open(&raw).unwrap();
    assert_eq!(memory.format(), "raw");
    assert!(memory.notes()[0].contains("address 0"));
    assert_eq!(memory.read_u64(Hpa(0x1008)), Some(7));
    let map = raw::mapped("100000000-100000fff @ 1000\n200000000-200ffffff @ 2000").unwrap();
    let memory = Memory::of("dump".to_owned(), Box::new(raw), Some(map)).unwrap();
    assert_eq!(memory.read_u64(Hpa(0x1008)), None);
    assert_eq!(memory.read_u64(Hpa(0x100000008)), Some(7));
    assert_eq!(memory.read_u64(Hpa(0x200000ff8)), Some(0));
    assert_eq!(memory.read_u64(Hpa(0x200001000)), None, "past the end of the file");
    assert!(memory.notes()[0].starts_with("cut off: 0xfff000 bytes"));
    let map = raw::mapped("0-fff @ 0").unwrap();
    let err = Memory::of("dump".to_owned(), Box::new(ELF.to_vec()), Some(map)).err().unwrap();
    assert!(err.to_string().contains("leave --map out"));
}

#[test]
fn what_is_no_memory_dump_is_refused_with_the_remedy() {
    assert!(refusal(b"LibvirtQemudSave\x02\0\0\0").contains("virsh dump --memory-only"));
    assert!(refusal(b"LibvirtQemudPart\x02\0\0\0").contains("virsh dump --memory-only"));
    assert!(refusal(b"QEVM\0\0\0\x03").contains("dump-guest-memory"));
    assert!(refusal(b"AVML\x02\0\0\0").contains("avml-convert"));
    assert!(refusal(b"\x1f\x8b\x08\0").contains("unpack"));
    assert!(refusal(b"").contains("empty"));
    let mut executable = ELF.to_vec();
    executable[16] = 2;
    assert!(refusal(&executable).contains("dump-guest-memory"));
    // The core of a process: no segment has a physical address.
    let mut process = ELF.to_vec();
    for number in 0..6 {
        process[64 + 56 * number + 24..][..8].fill(0);
    }
    assert!(refusal(&process).contains("core of a process"));
}

#[test]
fn overlapping_segments_of_a_dump_with_paging_are_all_right() {
    // The second segment now says that it is at the first's place, with the same memory.
    let mut overlapping = ELF.to_vec();
    let first: Vec<u8> = overlapping[64..64 + 56].to_vec();
    overlapping[64 + 56..64 + 112].copy_from_slice(&first);
    let memory = open(&overlapping).unwrap();
    assert_eq!(memory.read_u64(Hpa(0x32cd008)), Some(0xbc32e67));
    assert_eq!(memory.read_u64(Hpa(0x32ce000)), None);
}

#[test]
fn a_pipe_and_a_missing_file_are_refused() {
    let err = Memory::open(Path::new("/nonexistent/dump"), None).err().unwrap().to_string();
    assert!(err.starts_with("/nonexistent/dump: "), "{err}");
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    assert!(Opened::new(file).err().unwrap().to_string().contains("pipe"));
}
