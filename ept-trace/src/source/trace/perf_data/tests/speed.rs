//! How fast it is, against perf itself: by hand, in a release build.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::writer::{self, Compressor, END_OF_ROUND};
use super::*;

const EVENTS: u32 = 3_000_000;
/// In each round, by each CPU.
const IN_ROUND: u32 = 2000;

/// The events of the real log that are KVM's, again and again, round after round.
fn rounds(cpus: u32) -> impl Iterator<Item = Vec<u8>> {
    let others = writer::samples_of("sched_switch");
    let samples: Vec<_> = writer::samples().into_iter().filter(|it| !others.contains(it)).collect();
    let rounds = EVENTS / (IN_ROUND * cpus);
    (0..rounds).map(move |round| {
        let numbers = move || round * IN_ROUND..(round + 1) * IN_ROUND;
        let event = |number: u32, cpu: u32| {
            let time = 1_000_000_000 + u64::from(number) * 1000 + u64::from(cpu);
            writer::at(samples[number as usize % samples.len()].clone(), time, cpu)
        };
        (0..cpus).flat_map(|cpu| numbers().flat_map(move |number| event(number, cpu))).collect()
    })
}

fn plain(cpus: u32) -> Vec<u8> {
    rounds(cpus).flat_map(|round| [round, END_OF_ROUND.to_vec()]).flatten().collect()
}

fn compressed() -> Vec<u8> {
    let mut compressor = Compressor::new();
    rounds(1)
        .flat_map(|round| {
            let compressed = compressor.compress(&round);
            let pieces = compressed.chunks(65000);
            let pieces: Vec<_> =
                pieces.flat_map(|it| writer::record(kinds::COMPRESSED, it)).collect();
            pieces.into_iter().chain(END_OF_ROUND)
        })
        .collect()
}

fn measure(what: &str, path: &Path, open: impl Fn(File) -> io::Result<PerfData>) -> f64 {
    let seconds = (0..3).map(|_| {
        let begin = Instant::now();
        let mut reader = open(File::open(path).unwrap()).unwrap();
        let mut events = 0;
        loop {
            let mut batch = Batch::default();
            reader.read(&mut batch).unwrap();
            assert_eq!(batch.skipped, Skipped::default());
            let told = batch.records.len() as u64 + batch.others;
            if told == 0 {
                break;
            }
            events += told;
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!("{what}: {events} events, {:.1} M/s", f64::from(EVENTS) / seconds / 1e6);
        seconds
    });
    seconds.fold(f64::MAX, f64::min)
}

#[test]
#[ignore = "takes a minute, and needs perf"]
fn ten_times_as_fast_as_perf_script() {
    let path = std::env::temp_dir().join(format!("ept-trace-{}.data", std::process::id()));
    fs::write(&path, writer::file(&plain(16))).unwrap();
    measure("16 CPUs", &path, PerfData::open);
    fs::write(&path, writer::pipe(&plain(1))).unwrap();
    measure("pipe", &path, |file| PerfData::stream(Box::new(file)));
    fs::write(&path, writer::file(&compressed())).unwrap();
    measure("compressed", &path, PerfData::open);
    fs::write(&path, writer::file(&plain(1))).unwrap();
    let ours = measure("file", &path, PerfData::open);
    let begin = Instant::now();
    let mut script = Command::new("perf");
    script.args(["script", "-i"]).arg(&path);
    let status = script.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let perfs = begin.elapsed().as_secs_f64();
    fs::remove_file(&path).unwrap();
    assert!(status.success());
    println!("perf script: {:.2} M/s", f64::from(EVENTS) / perfs / 1e6);
    assert!(ours * 10.0 < perfs, "{ours} s, perf script {perfs} s");
}
