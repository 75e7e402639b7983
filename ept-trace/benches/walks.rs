//! Walks of 4-level EPT in a second, beside a floor that does the same loads and checks nothing.
//!
//! `cargo xtask bench` runs it. What counts are the ratios, of the fastest of several turns in which
//! both take their part: the machine is not quiet.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers, and only measured with"
)]

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use ept_trace::ept::{Access, Cpu, Ept, EptCapability, PhysRead};
use ept_trace::model::{Gpa, Hpa};

/// Mapped in pages of 4 KiB.
const BYTES: u64 = 1 << 30;
/// Walks in a turn.
const WALKS: usize = 1 << 22;
/// Walks in a batch: what they give stays in the cache.
const BATCH: usize = 1 << 10;
const TURNS: usize = 7;

/// A PML4, a PDPT, a PD and 512 PTs, from 0x1000 on.
struct Memory(Vec<u64>);

impl PhysRead for Memory {
    #[inline(always)]
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        self.0.get((at.0 >> 3) as usize).copied()
    }
}

impl Memory {
    fn new() -> Self {
        let mut entries = vec![0; 516 << 9];
        for table in 0..2 {
            entries[(1 + table) << 9] = ((2 + table as u64) << 12) | 0x907;
        }
        for table in 0..512 {
            entries[(3 << 9) + table] = ((4 + table as u64) << 12) | 0x907;
        }
        for page in 0..512 << 9 {
            entries[(4 << 9) + page] = ((page as u64) << 12) | 0x377;
        }
        Self(entries)
    }

    /// The same, with every third entry of the PTs broken in one bit.
    fn hostile() -> Self {
        let mut memory = Self::new();
        let mut random = 1;
        for entry in memory.0[4 << 9..].iter_mut().step_by(3) {
            *entry ^= 1 << (next(&mut random) % 12);
        }
        memory
    }

    /// The same loads, and nothing else: every entry is taken for a table or a page of 4 KiB.
    #[inline(always)]
    fn load(&self, table: u64, index: u64) -> u64 {
        self.0[((table & 0xf_ffff_ffff_f000) >> 3 | index & 0x1ff) as usize]
    }
}

/// Splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

fn floor(memory: &Memory, gpas: &[Gpa], hpas: &mut [Hpa]) {
    let mut region = u64::MAX;
    let mut table = 0;
    for (gpa, hpa) in gpas.iter().zip(hpas) {
        let gpa = gpa.0;
        if gpa >> 21 != region {
            region = gpa >> 21;
            table = memory.load(0x1000, gpa >> 39);
            table = memory.load(table, gpa >> 30);
            table = memory.load(table, gpa >> 21);
        }
        *hpa = Hpa(memory.load(table, gpa >> 12) & 0xf_ffff_ffff_f000 | gpa & 0xfff);
    }
}

/// The fastest turn of each way, in nanoseconds a walk.
fn fastest<const N: usize>(mut ways: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..TURNS {
        for (way, best) in ways.iter_mut().zip(&mut best) {
            let started = Instant::now();
            way();
            *best = best.min(started.elapsed().as_secs_f64() * 1e9 / WALKS as f64);
        }
    }
    best
}

fn main() {
    let cpu = Cpu { capability: EptCapability(0xf01_0633_4141), maxphyaddr: 46, ..Cpu::default() };
    let ept = Ept::new(0x105e, &cpu).expect("a valid EPTP");
    let (memory, hostile) = (Memory::new(), Memory::hostile());
    let mut random = 7;
    let sequential: Vec<Gpa> = (0..WALKS as u64).map(|at| Gpa((at << 12) % BYTES)).collect();
    let scattered: Vec<Gpa> = (0..WALKS).map(|_| Gpa(next(&mut random) % BYTES)).collect();

    println!("walks of 4-level EPT, pages of 4 KiB, ns a walk: fastest of {TURNS} turns");
    println!("{:<26}{:>9}{:>9}{:>9}", "", "floor", "walks", "ratio");
    let cases = [
        ("sequential", &memory, &sequential),
        ("random", &memory, &scattered),
        ("hostile, sequential", &hostile, &sequential),
        ("hostile, random", &hostile, &scattered),
    ];
    for (name, memory, gpas) in cases {
        let (mut loaded, mut walked) = (vec![Hpa(0); BATCH], vec![Hpa(0); BATCH]);
        let mut denied = 0_u64;
        let [floor, walks] = fastest([
            &mut || gpas.chunks(BATCH).for_each(|gpas| floor(memory, black_box(gpas), &mut loaded)),
            &mut || {
                for gpas in gpas.chunks(BATCH) {
                    let gpas = black_box(gpas);
                    ept.translate_all(memory, gpas, &Access::READ, &mut walked, |_, _| denied += 1);
                }
            },
        ]);
        black_box((&loaded, &walked, denied));
        println!("{name:<26}{floor:>9.2}{walks:>9.2}{:>9.2}", walks / floor);
    }

    let cores = thread::available_parallelism().map_or(1, usize::from);
    let on = |threads: usize| {
        let share = scattered.len().div_ceil(threads);
        let [time] = fastest([&mut || {
            thread::scope(|scope| {
                for gpas in scattered.chunks(share) {
                    let memory = &memory;
                    scope.spawn(move || {
                        let mut hpas = vec![Hpa(0); BATCH];
                        for gpas in gpas.chunks(BATCH) {
                            ept.translate_all(memory, gpas, &Access::READ, &mut hpas, |_, _| ());
                        }
                        black_box(&hpas);
                    });
                }
            });
        }]);
        time
    };
    let (one, all) = (on(1), on(cores));
    println!("random, on {cores} cores: {:.2} times as many walks as on 1", one / all);
}
