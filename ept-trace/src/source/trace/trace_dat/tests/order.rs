//! The events of several CPUs.

use super::super::compression::Compression;
use super::made::{Buffer, Made, PAGE, Page, entry, switch};
use super::*;

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Pages of a CPU, with events at these times.
fn pages(times: &[u64], tid: u32) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for times in times.chunks(60) {
        let (mut page, mut now) = (Page::at(times[0]), times[0]);
        for (number, &time) in times.iter().enumerate() {
            let event = entry(tid, u32::try_from(number).unwrap());
            page = page.event(u32::try_from(time - now).unwrap(), &event);
            now = time;
        }
        pages.push(page.bytes());
    }
    pages
}

#[test]
fn events_of_all_cpus_are_in_the_order_of_their_times() {
    let mut random = Random(7);
    for _ in 0..20 {
        let cpus = 1 + random.below(9);
        let mut expected = Vec::new();
        let mut made = Vec::new();
        for cpu in 0..cpus {
            let mut now = random.below(1000);
            let times: Vec<_> = (0..random.below(2000))
                .map(|_| {
                    // Many are equal.
                    now += random.below(4) * random.below(50);
                    now
                })
                .collect();
            let tid = u32::try_from(cpu).unwrap() + 1;
            expected.extend(times.iter().map(|&time| (time, tid)));
            made.push(pages(&times, tid));
        }
        // Of equal times, the lower CPU is the first, and events of a CPU stay as they are.
        expected.sort_unstable();
        for file in [Made::new(made.clone()).v6(), Made::new(made).v7(Compression::Zstd)] {
            let batch = read(&file);
            assert_eq!(batch.skipped, Skipped::default());
            let told: Vec<_> = batch.records.iter().map(|it| (it.time_ns, it.tid)).collect();
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn an_instance_without_kvm_is_told_from_one_with_it() {
    let others = [5, 15, 25].map(|time| Page::at(time).event(1, &switch(1)).bytes()).to_vec();
    let mut made = Made::new(vec![others]);
    made.buffers.push(Buffer { name: "kvm", cpus: vec![pages(&[1, 2], 9)] });
    made.buffers.push(Buffer { name: "empty", cpus: vec![Vec::new()] });
    for file in [made.v6(), made.v7(Compression::None)] {
        let dat = open(&file).unwrap();
        let holds: Vec<_> = (0..4).map(|instance| dat.holds_kvm(instance).unwrap()).collect();
        assert_eq!(holds, [false, true, false, false]);
        let batch = read_all(&dat, 0).unwrap();
        assert_eq!((batch.records.len(), batch.others), (0, 3));
    }
}

#[test]
fn batches_are_bounded() {
    let times: Vec<_> = (0..20_000).collect();
    let file = Made::new(vec![pages(&times, 1), pages(&times, 2)]).v6();
    let mut reader = open(&file).unwrap().reader(0).unwrap();
    let mut sizes = Vec::new();
    loop {
        let mut batch = Batch::default();
        reader.read(&mut batch).unwrap();
        sizes.push(batch.records.len());
        if batch.records.is_empty() {
            break;
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 40_000);
    assert!(sizes.len() > 4 && sizes.iter().all(|&size| size < 5000), "{sizes:?}");
    assert!(file.len() > 40_000 / 60 * PAGE);
}
