//! Random tables that are mostly right, and accesses to them.

use super::super::*;
use crate::model::{Gpa, Hpa};

/// Splitmix64.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// A CPU, an EPTP, and two tables of each level, of which four entries repeat.
#[derive(Debug)]
pub(super) struct World {
    pub cpu: Cpu,
    pub eptp: u64,
    entries: [[u64; 4]; 12],
}

impl PhysRead for World {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        let table = self.entries.get(usize::try_from(at.0 >> 12).ok()?)?;
        // Tables of level 0, that is pages, are not there.
        (at.0 >> 12 >= 2).then(|| table[(at.0 >> 3 & 3) as usize])
    }
}

impl World {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut capability = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 14 | 3 << 16 | 1 << 21 | 1 << 23;
        for bit in [0, 22] {
            capability |= (random.next() & 1) << bit;
        }
        if random.one_in(4) {
            capability &= !(1 << random.pick(&[6, 7, 8, 14, 16, 17, 21, 23]));
        }
        let length = random.pick(&[4, 5]);
        let mut eptp = (2 * length) << 12 | (length - 1) << 3 | random.pick(&[6, 6, 6, 0]);
        eptp |= random.next() & 0xc0;
        if random.one_in(16) {
            eptp ^= 1 << (random.next() & 63);
        }
        let cpu = Cpu {
            capability: EptCapability(capability),
            maxphyaddr: random.pick(&[36, 46, 48, 52, 52, 64]),
            tme_keyid_bits: random.pick(&[0, 0, 0, 6]),
            controls: if random.one_in(2) { controls(random) } else { Controls::default() },
        };
        let rotten = random.pick(&[4, 16, 64, 1000]);
        let mut entries = [[0; 4]; 12];
        for (at, table) in entries.iter_mut().enumerate().skip(2) {
            for entry in table {
                *entry = World::entry(random, at as u64 / 2, rotten);
            }
        }
        Self { cpu, eptp, entries }
    }

    /// An entry of a table of this level; one in `rotten` has bits turned over.
    fn entry(random: &mut Random, level: u64, rotten: u64) -> u64 {
        let rights = random.pick(&[0x407, 0x407, 0x407, 0x407, 0x407, 0x407, 0x405, 7, 5, 1, 4, 0]);
        // Bits that are ignored without their control: accessed to bit 11 and 62:52.
        let mut entry = rights | random.next() & 0xfff0_0000_0000_0b00;
        if level == 1 || level < 4 && random.one_in(6) {
            let large = if level == 1 { 0 } else { 1 << 7 };
            let memory_type = random.pick(&[6, 6, 6, 0, 1, 4, 5]);
            let below = (1 << (12 + 9 * (level - 1))) - 1;
            let page = random.next() & 0xf_ffff_f000 & !below;
            entry |= page | memory_type << 3 | large | random.next() & 1 << 6;
        } else {
            entry |= (2 * (level - 1) + (random.next() & 1)) << 12;
        }
        if random.one_in(rotten) {
            for _ in 0..=random.next() & 1 {
                entry ^= 1 << (random.next() & 63);
            }
        }
        entry
    }

    /// Few regions, so that neighbours meet; now and then too wide an address.
    pub(super) fn gpa(random: &mut Random) -> Gpa {
        let width = random.pick(&[36, 36, 36, 36, 36, 36, 46, 48, 52, 64]);
        let gpa = random.next() >> (64 - width);
        let sparse = random.pick(&[u64::MAX, 0xff80_3fff_ffff, 0x1ff_ffff, 0x1ff_ffff]);
        Gpa(gpa & sparse)
    }
}

pub(super) fn controls(random: &mut Random) -> Controls {
    Controls {
        mbe: random.one_in(3),
        spp: random.one_in(2),
        paging_write: random.one_in(3),
        guest_paging_verification: random.one_in(2),
        ve: random.one_in(2),
        nmi_exiting: random.one_in(2),
        virtual_nmis: random.one_in(2),
        pml_index: random.pick(&[None, None, None, Some(511), Some(512), Some(u16::MAX)]),
    }
}

pub(super) fn access(random: &mut Random) -> Access {
    if random.one_in(3) {
        return random.pick(&[Access::READ, Access::WRITE, Access::FETCH]);
    }
    let (user, supervisor) = (Some(ShadowStack::User), Some(ShadowStack::Supervisor));
    let leaf =
        GuestLeaf { user: random.one_in(2), writable: random.one_in(2), nx: random.one_in(2) };
    let table = [Stage::GuestTableRead, Stage::GuestTableUpdate, Stage::PdpteLoad];
    let last = [Stage::Final, Stage::Final, Stage::Final, Stage::Asynchronous];
    let vector = random.next();
    Access {
        kind: random.pick(&[Kind::Read, Kind::Write, Kind::ReadModifyWrite, Kind::Fetch]),
        stage: if random.one_in(3) { random.pick(&table) } else { random.pick(&last) },
        gla_valid: !random.one_in(8),
        user: random.one_in(2),
        paging: !random.one_in(4),
        shadow_stack: random.pick(&[None, None, user, supervisor]),
        guest_leaf: random.pick(&[None, Some(leaf)]),
        guest_tables_all_paging_write: random.one_in(2),
        spp_vector: random.pick(&[None, Some(vector), Some(vector & 0x5555_5555_5555_5555)]),
        spp_exempt: random.one_in(6),
        iret_nmi_unblock: random.one_in(4),
        event_delivery: random.one_in(4),
    }
}
