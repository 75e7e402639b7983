//! The files are made by hand, but for the [`samples`]; trace-cmd 3.1.6 prints the same of both.

mod clocks;
mod damage;
mod gaps;
mod hostile;
mod made;
mod order;
mod pages;
mod samples;
mod speed;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::source::Skipped;
use crate::source::trace::record::Record;

/// A file that has these bytes, and no name.
fn file_of(bytes: &[u8]) -> File {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("ept-trace-{}-{number}.dat", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn open(bytes: &[u8]) -> io::Result<TraceDat> {
    TraceDat::open(file_of(bytes))
}

/// All that an instance tells.
fn read_all(dat: &TraceDat, instance: usize) -> io::Result<Batch> {
    let mut all = Batch::default();
    let mut reader = dat.reader(instance).unwrap();
    loop {
        let mut batch = Batch::default();
        reader.read(&mut batch)?;
        assert!(batch.records.len() < 10_000, "a batch of {}", batch.records.len());
        all.others += batch.others;
        all.skipped.append(batch.skipped);
        if batch.records.is_empty() {
            return Ok(all);
        }
        all.records.append(&mut batch.records);
    }
}

fn read(bytes: &[u8]) -> Batch {
    read_all(&open(bytes).unwrap(), 0).unwrap()
}

fn is_loss(record: &Record) -> bool {
    matches!(record.event, Tracepoint::Lost { .. })
}

/// Something was told to be missing.
fn tells_loss(batch: &Batch) -> bool {
    batch.skipped.count > 0 || batch.records.iter().any(is_loss)
}
