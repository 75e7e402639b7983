//! The walk against a second definition of it, and the fast walk against the exact one.

mod naive;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;
use std::time::Instant;

use super::*;
use crate::model::{Gpa, Hpa};
use world::{Random, World};

/// Walks of a test run: `EPT_TRACE_WALKS`, or enough for an ordinary run.
fn walks() -> u64 {
    match std::env::var("EPT_TRACE_WALKS") {
        Ok(count) => count.parse().expect("EPT_TRACE_WALKS is a number of walks"),
        Err(_) => 1_000_000,
    }
}

/// How often each kind of outcome came up.
#[derive(Default)]
struct Tally([u64; 9]);

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let kind = match outcome {
            Outcome::Translation(Translation { via: None, .. }) => 0,
            Outcome::Translation(_) => 1,
            Outcome::Violation(_) => 2,
            Outcome::Misconfiguration { .. } => 3,
            Outcome::SubPage(_) => 4,
            Outcome::LogFull => 5,
            Outcome::NestedFault(_) => 6,
            Outcome::GpaNotRepresentable => 7,
            Outcome::NotInDump { .. } => 8,
        };
        self.0[kind] += 1;
    }
}

/// Tables that are mostly right, walked in three ways.
fn compare(seed: u64, walks: u64) -> Tally {
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut done = 0;
    while done < walks {
        let world = World::new(&mut random);
        let refused = naive::refused(world.eptp, &world.cpu);
        let ept = match Ept::new(world.eptp, &world.cpu) {
            Ok(ept) => ept,
            Err(wrong) => {
                assert_eq!(wrong, refused, "{world:?}");
                done += 1;
                continue;
            }
        };
        assert!(refused.is_empty(), "{world:?}");
        for _ in 0..4 {
            let access = world::access(&mut random);
            let gpas: [Gpa; 16] = std::array::from_fn(|_| World::gpa(&mut random));
            let mut hpas = [Hpa(0); 16];
            let mut denied = BTreeMap::new();
            ept.translate_all(&world, &gpas, &access, &mut hpas, |place, outcome| {
                denied.insert(place, outcome);
            });
            for (place, (&gpa, &hpa)) in gpas.iter().zip(&hpas).enumerate() {
                let exact = ept.walk(&world, gpa, &access).outcome;
                let fast = ept.translate(&world, gpa, &access);
                let naive = naive::walk(world.eptp, &world.cpu, &world, gpa, &access);
                assert_eq!(exact, naive, "{gpa} {access:?} {world:?}");
                assert_eq!(fast, exact, "{gpa} {access:?} {world:?}");
                match (exact, denied.get(&place)) {
                    (Outcome::Translation(translation), None) => {
                        assert_eq!(hpa, translation.hpa, "{gpa} {access:?} {world:?}");
                    }
                    (_, told) => {
                        assert_eq!(told, Some(&exact), "{gpa} {access:?} {world:?}");
                        assert_eq!(hpa, Hpa(u64::MAX), "{gpa} {access:?} {world:?}");
                    }
                }
                tally.add(&exact);
            }
            done += 16;
        }
    }
    tally
}

#[test]
fn the_fast_walk_and_the_exact_one_and_the_naive_one_agree() {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let share = walks().div_ceil(threads);
    let started = Instant::now();
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let start = |seed| scope.spawn(move || compare(seed, share));
        let running: Vec<_> = (1..=threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sums = [0; 9];
    for tally in tallies {
        sums.iter_mut().zip(tally.0).for_each(|(sum, count)| *sum += count);
    }
    println!("{} walks in {:?}, by outcome {sums:?}", share * threads, started.elapsed());
    // Agreement on one outcome says nothing of the others. #NPF is not EPT's.
    let missing: Vec<usize> = (0..9).filter(|&kind| kind != 6 && sums[kind] == 0).collect();
    assert_eq!(missing, [0; 0], "outcomes that never came up");
}

/// Memory in which every address holds noise.
struct Noise(u64);

impl PhysRead for Noise {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        Some(Random(self.0 ^ at.0).next())
    }
}

#[test]
fn no_input_panics() {
    let mut random = Random(3);
    let ordinary = 1 << 0 | 3 << 6 | 1 << 8 | 1 << 14 | 3 << 16 | 7 << 21;
    for _ in 0..walks() / 10 {
        let memory = Noise(random.next());
        let gpa = Gpa(random.next() >> (random.next() & 63));
        let access = world::access(&mut random);
        let cpu = Cpu {
            capability: EptCapability(random.next() | if random.one_in(2) { ordinary } else { 0 }),
            maxphyaddr: random.byte(),
            tme_keyid_bits: random.byte() & random.byte(),
            controls: world::controls(&mut random),
        };
        let mut eptp = random.next();
        if random.one_in(2) {
            eptp = eptp & 0xff_f040 | if random.one_in(2) { 0x1e } else { 0x26 };
        }
        match Ept::new(eptp, &cpu) {
            Ok(ept) => {
                let walk = ept.walk_bytes(&memory, gpa, random.byte(), &access);
                assert!(walk.trail.len() <= 5);
                ept.translate(&memory, gpa, &access);
                let entry = random.next();
                let level = random.byte();
                assert!(!ept.describe(entry, level).to_string().is_empty());
                ept.misconfiguration(entry, level);
            }
            Err(wrong) => assert!(!wrong.describe(eptp, Some(cpu.hpa_width())).is_empty()),
        }
        let npt_cpu = NptCpu {
            maxphyaddr: random.byte(),
            nxe: random.one_in(2),
            la57: random.one_in(2),
            smep: random.one_in(2),
            gbpages: random.one_in(2),
            gmet: random.one_in(2),
        };
        let npt = Npt::new(random.next(), &npt_cpu);
        assert!(npt.walk(&memory, gpa, &access).trail.len() <= 5);
        assert!(!npt.describe(random.next(), random.byte()).to_string().is_empty());
    }
}

/// SDM tables 31-1 to 31-7, of a CPU with everything and without any control.
#[test]
fn entries_are_described_by_what_their_bits_mean_here() {
    let capability = EptCapability(1 << 6 | 1 << 14 | 3 << 16 | 1 << 21 | 1 << 23);
    let plain = Cpu { capability, maxphyaddr: 46, ..Cpu::default() };
    let all = Controls {
        mbe: true,
        spp: true,
        paging_write: true,
        guest_paging_verification: true,
        ve: true,
        ..Controls::default()
    };
    let cpu = Cpu { controls: all, ..plain };
    let cases = [
        (&plain, 0x101e, 0x2007, 4, "0x2000 R W X"),
        (&plain, 0x105e, 0x2107, 4, "0x2000 R W X A"),
        (&plain, 0x101e, 0x2107, 4, "0x2000 R W X, ignored 0x100"),
        (&plain, 0x105e, 0x2307, 3, "0x2000 R W X A, ignored 0x200"),
        (&plain, 0x105e, 0x4000_03b7, 2, "0x40000000 R W X leaf A D WB"),
        (&plain, 0x105e, 0x4000_03f7, 1, "0x40000000 R W X IPAT A D WB, ignored 0x80"),
        (&plain, 0x101e, 0x2087, 5, "0x2000 R W X, reserved 0x80"),
        (&plain, 0x101e, 0x4000_2087, 2, "0x40000000 R W X leaf UC, reserved 0x2000"),
        (&plain, 0x101e, 0x4000_0010, 1, "not present, ignored 0x40000010"),
        (&plain, 0x101e, 0x4000_0017, 1, "0x40000000 R W X"),
        (
            &plain,
            0x101e,
            0xfff0_0000_4000_0f37,
            1,
            "0x40000000 R W X WB, ignored 0xfff0000000000f00",
        ),
        (&cpu, 0x101e, 1 << 63, 4, "not present suppress-#VE"),
        (&cpu, 0x101e, 0x2400, 4, "0x2000 XU"),
        (
            &cpu,
            0x10de,
            0xb600_0000_4000_0737,
            1,
            "0x40000000 R W X XU A D verify-guest-paging paging-write supervisor-shadow-stack \
             sub-page suppress-#VE WB",
        ),
        (
            &cpu,
            0x101e,
            0x2000_0000_4000_0087,
            2,
            "0x40000000 R W X leaf UC, ignored 0x2000000000000000",
        ),
    ];
    for (cpu, eptp, entry, level, expected) in cases {
        let ept = Ept::new(eptp, cpu).unwrap();
        assert_eq!(ept.describe(entry, level).to_string(), expected, "{entry:#x} at {level}");
    }
    let npt = Npt::new(0x1000, &NptCpu { maxphyaddr: 46, gbpages: true, ..NptCpu::default() });
    for (entry, level, expected) in [
        (0x2027, 4, "0x2000 P RW US A"),
        (0x2127, 4, "0x2000 P RW US A, reserved 0x100"),
        (0x4000_11e7, 2, "0x40000000 P RW US A D leaf G PAT"),
        (0x4000_1067, 1, "0x40001000 P RW US A D"),
        (1 << 63 | 0x4000_1067, 1, "0x40001000 P RW US A D, reserved 0x8000000000000000"),
        (0x4000_1066, 1, "not present, ignored 0x40001066"),
    ] {
        assert_eq!(npt.describe(entry, level).to_string(), expected, "{entry:#x} at {level}");
    }
}

/// The whole table of SDM 31.3.7; S16 table 11-7.
#[test]
fn memory_types_combine_as_in_the_table() {
    use MemoryType::{Uc, Wb, Wc, Wp, Wt};
    let rows = [
        (Uc, "UC UC WC UC UC UC"),
        (Wc, "UC WC WC UC UC WC"),
        (Wt, "UC UC WC WT WP WT"),
        (Wp, "UC WC WC WT WP WP"),
        (Wb, "UC UC WC WT WP WB"),
    ];
    for (memory_type, row) in rows {
        let columns = [Pat::Uc, Pat::UcMinus, Pat::Wc, Pat::Wt, Pat::Wp, Pat::Wb];
        for (pat, expected) in columns.into_iter().zip(row.split(' ')) {
            let guest = Guest { pat, cr0_cd: false, cr0_pg: true };
            let plain = LeafMemory { memory_type, ipat: false };
            let ipat = LeafMemory { memory_type, ipat: true };
            assert_eq!(plain.effective(guest).name(), expected, "{memory_type} {pat:?}");
            assert_eq!(ipat.effective(guest), memory_type);
            assert_eq!(ipat.effective(Guest { cr0_cd: true, ..guest }), Uc);
            let unpaged = Guest { cr0_pg: false, ..guest };
            assert_eq!(plain.effective(unpaged), memory_type, "PAT counts as WB");
        }
    }
}
