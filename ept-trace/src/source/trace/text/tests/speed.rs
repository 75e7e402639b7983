//! How fast a log is read, against how fast its newlines are found:
//! `cargo test --release -p ept-trace --no-default-features --lib speed -- --ignored --nocapture`.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use super::same_run::{PERF, REPORT_N, REPORT_R, TRACE};
use super::*;
use crate::source::trace::text::blocks::{Block, Blocks};
use crate::source::trace::text::lines;
use crate::source::trace::text::payload::Bare;

const BYTES: usize = 400 << 20;

/// A file that is there for a test.
struct Temporary(std::path::PathBuf);

impl Temporary {
    /// The events of a sample, again and again.
    fn of(sample: &str) -> Self {
        let events: String = sample
            .lines()
            .filter(|line| line.starts_with(' '))
            .flat_map(|line| [line, "\n"])
            .collect();
        let path = std::env::temp_dir().join(format!("speed-{}.txt", std::process::id()));
        std::fs::write(&path, events.repeat(BYTES / events.len())).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn fastest(mut once: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let begin = Instant::now();
        once();
        begin.elapsed()
    });
    times.min().unwrap()
}

fn each_block(path: &Path, mut what: impl FnMut(&Block)) {
    let mut blocks = Blocks::new(Box::new(File::open(path).unwrap()));
    let mut spare = Vec::new();
    while let Some(block) = blocks.next(spare).unwrap() {
        what(&block);
        spare = block.bytes;
    }
}

#[test]
#[ignore = "takes a while, and has no verdict"]
fn speed() {
    for (kind, sample) in [
        (Kind::Ftrace, TRACE),
        (Kind::TraceCmd, REPORT_N),
        (Kind::TraceCmd, REPORT_R),
        (Kind::PerfScript, PERF),
    ] {
        let file = Temporary::of(sample);
        let mut newlines = 0_u32;
        let scan = fastest(|| {
            newlines = 0;
            each_block(&file.0, |block| {
                for newline in memchr::memchr_iter(b'\n', &block.bytes) {
                    black_box(newline);
                    newlines += 1;
                }
            });
        });
        let alone = fastest(|| {
            each_block(&file.0, |block| {
                assert!(black_box(lines::parse(block, kind, Bare::Hex)).bad.is_empty());
            });
        });
        let caller = fastest(|| {
            let mut reader = open(kind, Box::new(File::open(&file.0).unwrap()));
            loop {
                let mut batch = Batch::default();
                reader.read(&mut batch).unwrap();
                if black_box(&batch).records.is_empty() {
                    break;
                }
            }
        });
        println!("{kind}: {newlines} lines");
        for (what, time) in [("newlines", scan), ("one thread", alone), ("a caller", caller)] {
            let seconds = time.as_secs_f64();
            let rate = f64::from(newlines) / seconds / 1e6;
            let against = seconds / scan.as_secs_f64();
            println!("  {what:<12} {seconds:.3} s  {rate:>5.1} M lines/s  {against:.1}");
        }
    }
}
