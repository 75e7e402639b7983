//! Files that lie, and files that were never finished.

use super::super::compression::Compression;
use super::made::{Made, PAGE, Page, block, entry};
use super::*;

fn pages() -> Vec<Vec<u8>> {
    (1..30).map(|time| Page::at(time * 10).event(0, &entry(1, 2)).bytes()).collect()
}

fn error(bytes: &[u8]) -> String {
    open(bytes).unwrap_err().to_string()
}

/// Where these bytes are for the last time.
fn last(file: &[u8], bytes: &[u8]) -> usize {
    let mut windows = file.windows(bytes.len());
    windows.rposition(|it| it == bytes).unwrap()
}

/// The chunks of the only CPU: where its part begins, and its size without their count.
fn chunks(file: &[u8]) -> (usize, usize) {
    // The CPU's number, its offset and its size are the last of the table.
    let row = last(file, &option_done()) - 20;
    let number = |at: usize| {
        let bytes: [u8; 8] = file[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    (number(row + 4), number(row + 12))
}

fn option_done() -> [u8; 14] {
    let mut option = [0; 14];
    option[2] = 8;
    option
}

#[test]
fn a_file_that_was_never_finished_says_so() {
    let whole = Made::new(vec![pages()]).v7(Compression::None);
    let mut unfinished = whole.clone();
    let at = b"\x17\x08\x44tracing7\0\0\x08\0\0\0\0none\0\0".len();
    unfinished[at..at + 8].fill(0);
    let why = error(&unfinished);
    assert!(why.contains("trace-cmd was ended before it finished the file"), "{why}");
    let why = error(&whole[..whole.len() - 60]);
    assert!(why.contains("the file ends here"), "{why}");
}

#[test]
fn what_is_not_known_is_named() {
    let whole = Made::new(vec![pages()]).v7(Compression::Zlib);
    let with = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|it| it == from).unwrap();
        let mut file = whole.clone();
        file[at..at + to.len()].copy_from_slice(to);
        error(&file)
    };
    assert!(with(b"zlib", b"lzma").contains("\"lzma\""));
    assert!(with(b"7\0\0", b"8\0\0").contains("version 8"));
    assert!(with(b"7\0\0", b"7\0\x01").contains("big-endian"));
    let mut text = Made::new(vec![pages()]).v6();
    let at = last(&text, b"flyrecord\0");
    text[at..at + 10].copy_from_slice(b"latency  \0");
    assert!(error(&text).contains("is text (of a latency tracer)"));
    assert!(error(b"").contains("the file ends here"));
    assert!(error(b"\x7fELF\0\0\0\0\0\0\0\0").contains("tracing"));
}

#[test]
fn options_that_lead_in_a_circle_are_left() {
    let mut file = Made::new(vec![pages()]).v7(Compression::None);
    let at = b"\x17\x08\x44tracing7\0\0\x08\0\0\0\0none\0\0".len();
    let first: [u8; 8] = file[at..at + 8].try_into().unwrap();
    let done = last(&file, &option_done());
    file[done + 6..done + 14].copy_from_slice(&first);
    assert!(error(&file).contains("options without an end"));
}

#[test]
fn options_without_number_are_refused() {
    let mut made = Made::new(vec![pages()]);
    made.options = vec![(9, vec![0; 1 << 20]); 17];
    assert!(error(&made.v6()).contains("more options"));
    assert!(error(&made.v7(Compression::None)).contains("more options"));
    let buffer = |name| made::Buffer { name, cpus: vec![Vec::new()] };
    let mut made = Made::new(vec![pages()]);
    made.buffers.extend((0..5000).map(|_| buffer("kvm")));
    assert!(error(&made.v6()).contains("more options"));
    assert!(error(&made.v7(Compression::None)).contains("more options"));
    // Few options, and many CPUs.
    let mut made = Made::new(vec![pages()]).v6();
    let at = last(&made, b"options  \0") - 4;
    made[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(error(&made).contains("count of 4294967295"));
    let mut made = Made::new(vec![pages()]);
    made.options.push((8, (1_u32 << 16).to_le_bytes().to_vec()));
    made.buffers.extend((0..20).map(|_| buffer("kvm")));
    assert!(error(&made.v6()).contains("more tables of CPUs"));
}

#[test]
fn a_section_that_lies_about_its_size_takes_no_memory() {
    let whole = Made::new(vec![pages()]).v7(Compression::Zstd);
    let magic = 0xfd2f_b528_u32.to_le_bytes();
    let first = whole.windows(4).position(|it| it == magic).unwrap();
    for size in [u32::MAX, 33 << 20, 1] {
        let mut file = whole.clone();
        file[first - 4..first].copy_from_slice(&size.to_le_bytes());
        assert!(error(&file).contains("section 16"), "{}", error(&file));
    }
    let mut file = whole.clone();
    file[first - 8..first - 4].fill(0xff);
    assert!(error(&file).contains("section 16"));
    // Of the section itself.
    let whole = Made::new(vec![pages()]).v7(Compression::None);
    let head = whole.windows(11).position(|it| it == b"header_page").unwrap();
    let mut file = whole;
    file[head - 8..head].fill(0xff);
    assert!(error(&file).contains("18446744073709551615 bytes"));
}

#[test]
fn a_chunk_that_lies_about_its_size_is_passed_over() {
    for compression in [Compression::Zlib, Compression::Zstd] {
        let whole = Made::new(vec![pages()]).v7(compression);
        let (begin, size) = chunks(&whole);
        let first = begin + 4;
        let stored = u32::from_le_bytes(whole[first..first + 4].try_into().unwrap());
        let second = first + 8 + stored as usize;
        assert_eq!(read(&whole).records.len(), 29);
        for lie in [u32::MAX, 1 << 30, 300 << 10, 11 << 12, 9 << 12, 100, 0] {
            let mut file = whole.clone();
            file[second + 4..second + 8].copy_from_slice(&lie.to_le_bytes());
            let batch = read(&file);
            assert_eq!(batch.skipped.count, 1, "{lie}: {:?}", batch.skipped);
            let first = &batch.skipped.first[0];
            assert!(first.starts_with(&format!("offset {second:#x} (CPU 0)")), "{first}");
            let losses = batch.records.iter().filter(|record| is_loss(record));
            let times: Vec<_> = losses.map(|record| record.time_ns).collect();
            assert_eq!((times, batch.records.len()), (vec![100, 210], 19 + 2), "{lie}");
        }
        // Nothing after it can be found then.
        let mut file = whole.clone();
        file[second..second + 4].fill(0xff);
        let batch = read(&file);
        assert_eq!((batch.skipped.count, batch.records.len()), (1, 10 + 2));
        for (count, records) in [(0_u32, 0), (2, 20), (4, 29), (u32::MAX, 29)] {
            let mut file = whole.clone();
            file[begin..begin + 4].copy_from_slice(&count.to_le_bytes());
            let batch = read(&file);
            assert!(tells_loss(&batch), "{count} chunks of {size} bytes");
            assert_eq!(batch.records.iter().filter(|it| !is_loss(it)).count(), records);
        }
    }
}

/// Chunks of a few bytes that make as many as they may.
#[test]
fn chunks_that_swell_are_bounded() {
    let zeros = vec![0; 256 << 10];
    let bomb = block(&zeros, Compression::Zstd);
    assert!(bomb.len() < 1000);
    let mut file = Made::new(vec![pages()]).v7(Compression::Zstd);
    let (begin, size) = chunks(&file);
    let bombs = bomb.repeat(size / bomb.len());
    file[begin + 4..][..bombs.len()].copy_from_slice(&bombs);
    let batch = read(&file);
    // Pages without events, at time 0; and then what is left of the real ones.
    assert_eq!(batch.records.iter().filter(|record| !is_loss(record)).count(), 0);
    let mut source = open(&file).unwrap().reader(0).unwrap();
    source.read(&mut Batch::default()).unwrap();
    assert!(source.memory() < 2 << 20, "{} bytes", source.memory());
}

/// As many CPUs as a table may have, and pages as large as they may be.
#[test]
fn memory_does_not_follow_what_a_table_says() {
    let cpus = |number: usize| vec![pages()[..1].to_vec(); number];
    let many = Made::new(cpus(3000));
    let mut reader = open(&many.v6()).unwrap().reader(0).unwrap();
    reader.read(&mut Batch::default()).unwrap();
    assert!(reader.memory() <= 64 << 20, "{} bytes", reader.memory());
    let whole = many.v7(Compression::None);
    let page_size = last(&whole, b"local\0") + 6;
    let mut large = whole.clone();
    large[page_size..page_size + 4].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let why = error(&large);
    assert!(why.contains("pages of 1048576 bytes for 3000 CPUs"), "{why}");
    for size in [0, 16, (1_u32 << 20) + 1, u32::MAX] {
        large[page_size..page_size + 4].copy_from_slice(&size.to_le_bytes());
        let why = error(&large);
        assert!(why.contains(&format!("pages of {size} bytes")), "{why}");
    }
    assert!(whole.len() > 3000 * PAGE);
}

#[test]
fn a_cpu_whose_pages_are_nowhere_is_refused_or_told() {
    let whole = Made::new(vec![pages()]).v6();
    let table = last(&whole, b"flyrecord\0") + 10;
    let with = |at: usize, number: u64| {
        let mut file = whole.clone();
        file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        open(&file).and_then(|dat| read_all(&dat, 0))
    };
    for number in [u64::MAX, u64::MAX - (30 << 12), i64::MAX.cast_unsigned()] {
        let why = with(table, number).unwrap_err().to_string();
        assert!(why.contains("no place in the file"), "{why}");
    }
    let highest = i64::MAX.cast_unsigned() - (29 << 12);
    for (at, number) in [(table, 1 << 40), (table + 8, 1 << 40), (table, highest)] {
        let batch = with(at, number).unwrap();
        assert!(batch.skipped.first.iter().any(|it| it.contains("are missing")));
    }
    assert!(tells_loss(&with(table, 100).unwrap()));
}
