//! How fast a large file is read: run with `--release --ignored --nocapture`.

use std::fs;
use std::io::Write as _;

use super::super::compression::Compression;
use super::made::{Made, Page, changed, entry};
use super::samples::V6;
use super::*;

/// The file stays where this variable says, so that others can be measured with it.
const KEEP: &str = "EPT_TRACE_SPEED_FILE";

/// How long this thread was on a CPU: others may keep the machine busy.
fn on_cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "it is for the eye")]
fn measure(name: &str, bytes: &[u8]) {
    if let Some(path) = std::env::var_os(KEEP) {
        let path = format!("{}-{name}.dat", path.display());
        File::create(path).unwrap().write_all(bytes).unwrap();
    }
    let dat = open(bytes).unwrap();
    let mut best = f64::INFINITY;
    let (mut events, mut memory) = (0, 0);
    for _ in 0..5 {
        let begin = on_cpu_ns();
        let mut reader = dat.reader(0).unwrap();
        let mut batch = Batch::default();
        events = 0;
        loop {
            batch.records.clear();
            batch.others = 0;
            reader.read(&mut batch).unwrap();
            events += batch.records.len() as u64 + batch.others;
            memory = memory.max(reader.memory());
            if batch.records.is_empty() {
                break;
            }
        }
        assert_eq!(batch.skipped, Skipped::default());
        best = best.min((on_cpu_ns() - begin) as f64 / 1e9);
    }
    let (events, size) = (events as f64 / 1e6, bytes.len() as f64 / 1e6);
    let (rate, bytes) = (events / best, size / best);
    eprintln!("{name}: {events:.2} M events, {size:.0} MB: {best:.3} s");
    eprintln!("    {rate:.1} M events/s, {bytes:.0} MB/s of the file, {memory} bytes held");
}

/// The pages of the sample, again and again.
fn sample(times: u64) -> Vec<u8> {
    let table = V6.windows(10).position(|it| it == b"flyrecord\0").unwrap() + 10;
    let number = |at: usize| u64::from_le_bytes(V6[at..at + 8].try_into().unwrap());
    let begin = usize::try_from(number(table)).unwrap();
    let pages = &V6[begin..];
    let mut file = V6[..begin].to_vec();
    file[table + 8..table + 16].copy_from_slice(&(pages.len() as u64 * times).to_le_bytes());
    for time in 0..times {
        for page in pages.chunks(4096) {
            let stamp = u64::from_le_bytes(page[..8].try_into().unwrap()) + time * 1_000_000_000;
            file.extend(stamp.to_le_bytes());
            file.extend(&page[8..]);
        }
    }
    file
}

/// Several CPUs that take turns.
fn busy(cpus: u32, pages: u64) -> Made {
    let page = |number: u64, cpu: u32| {
        let mut page = Page::at(number * 10_000 + u64::from(cpu));
        for event in 0..60 {
            page = page.event(100, &entry(cpu, 3)).event(66, &changed(cpu, event, number));
        }
        page.bytes()
    };
    let cpus = (0..cpus).map(|cpu| (0..pages).map(|number| page(number, cpu)).collect());
    Made::new(cpus.collect())
}

#[test]
#[ignore = "a measurement"]
fn events_per_second() {
    measure("sample", &sample(20_000));
    let busy = busy(8, 5_000);
    measure("busy-v6", &busy.v6());
    measure("busy-none", &busy.v7(Compression::None));
    measure("busy-zlib", &busy.v7(Compression::Zlib));
    measure("busy-zstd", &busy.v7(Compression::Zstd));
}
