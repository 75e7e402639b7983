//! Files that are cut, and files with a byte changed.

use super::super::compression::Compression;
use super::made::{Made, Page, changed, entry, switch};
use super::*;

/// Two CPUs with some pages.
fn made() -> Made {
    let page = |number: u32, cpu: u32| {
        let time = u64::from(number) * 1000 + u64::from(cpu);
        let mut page = Page::at(time).event(0, &entry(100 + cpu, number));
        for event in 1..4_u64 {
            let tid = 100 + cpu;
            page = page.event(3, &changed(tid, event, u64::from(number)));
            page = page.event(2, &switch(tid));
        }
        page.bytes()
    };
    let pages = |cpu| (1..4).map(|number| page(number, cpu)).collect();
    Made::new(vec![pages(0), pages(1)]).stats(0, 0, 0).stats(1, 0, 0)
}

fn versions() -> [Vec<u8>; 4] {
    let made = made();
    let v7 = |compression| made.v7(compression);
    [made.v6(), v7(Compression::None), v7(Compression::Zlib), v7(Compression::Zstd)]
}

/// All that is told, or why it cannot be.
fn outcome(file: &File) -> io::Result<Batch> {
    read_all(&TraceDat::open(file.try_clone()?)?, 0)
}

fn events(batch: &Batch) -> Vec<(u32, Tracepoint)> {
    let events = batch.records.iter().filter(|record| !is_loss(record));
    events.map(|record| (record.tid, record.event)).collect()
}

/// The bytes that say something: after the events of a page there are none, nor before a page.
fn meaningful(file: &[u8]) -> impl Iterator<Item = usize> {
    (0..file.len()).filter(|&at| file[at.saturating_sub(32)..].iter().take(64).any(|&it| it != 0))
}

#[test]
fn a_file_that_is_cut_anywhere_says_so() {
    for whole in versions() {
        let file = file_of(&whole);
        let expected = events(&outcome(&file).unwrap());
        assert_eq!(expected.len(), 2 * 3 * 4);
        let mut lengths: Vec<_> = meaningful(&whole).collect();
        while let Some(length) = lengths.pop() {
            file.set_len(length as u64).unwrap();
            let Ok(batch) = outcome(&file) else { continue };
            assert!(tells_loss(&batch), "silent with {length} bytes of {}", whole.len());
            let left = events(&batch);
            assert!(left.iter().all(|event| expected.contains(event)), "{length} bytes");
        }
    }
}

#[test]
fn what_is_before_the_cut_is_read() {
    let whole = made().v6();
    let file = file_of(&whole);
    // Without the last page of the second CPU, and half of the one before.
    file.set_len((whole.len() - 4096 - 2000) as u64).unwrap();
    let batch = outcome(&file).unwrap();
    assert_eq!(events(&batch).len(), (3 + 1) * 4);
    let told = &batch.skipped.first;
    assert_eq!(told.len(), 2);
    assert!(told[0].ends_with("(CPU 1): 2096 bytes, which are no page"), "{told:?}");
    assert!(
        told[1].ends_with("(CPU 1): the file ends here, and 6096 bytes are missing"),
        "{told:?}"
    );
    // What the other CPU goes on with is no longer whole.
    assert!(is_loss(batch.records.last().unwrap()));
}

/// How many events of each kind there are: what they say may change with a byte of them.
fn kinds(batch: &Batch) -> [u64; 3] {
    let mut kinds = [0, 0, batch.others];
    for record in &batch.records {
        match record.event {
            Tracepoint::Entry { .. } => kinds[0] += 1,
            Tracepoint::SpteChanged { .. } => kinds[1] += 1,
            _ => {}
        }
    }
    kinds
}

/// Only of the names of systems and events nobody knows that they are wrong. trace-cmd has zstd write
/// no checksums, and what is changed in such a frame may become anything: of that see the next.
#[test]
fn a_changed_byte_that_takes_events_away_is_told() {
    let [v6, none, zlib, _] = versions();
    for whole in [v6, none, zlib] {
        let file = file_of(&whole);
        let expected = kinds(&outcome(&file).unwrap());
        let is_in_name = |at: usize| {
            let around = String::from_utf8_lossy(&whole[at.saturating_sub(30)..at + 30]);
            around.contains("kvm")
        };
        for at in meaningful(&whole) {
            let changed = whole[at] ^ [1, 0x10, 0x80, 0xff][at % 4];
            file.write_all_at(&[changed], at as u64).unwrap();
            if let Ok(batch) = outcome(&file)
                && !tells_loss(&batch)
                && kinds(&batch) != expected
            {
                assert!(is_in_name(at), "silent with {changed:#x} at {at:#x}");
            }
            file.write_all_at(&whole[at..=at], at as u64).unwrap();
        }
    }
}

#[test]
fn a_changed_byte_of_a_frame_of_zstd_does_no_harm() {
    let [.., whole] = versions();
    let file = file_of(&whole);
    let all = kinds(&outcome(&file).unwrap()).iter().sum::<u64>();
    for at in meaningful(&whole) {
        file.write_all_at(&[whole[at] ^ [1, 0x10, 0x80, 0xff][at % 4]], at as u64).unwrap();
        if let Ok(batch) = outcome(&file) {
            assert!(kinds(&batch).iter().sum::<u64>() <= 2 * all, "{at:#x}");
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
}
