//! A case: tables and an access, made by chance.

use std::collections::BTreeMap;

use ept_trace::ept::{EptCapability, Kind};
use walker::protocol::{Case as Head, DATA, Machine, OWN, TABLES, mark};

use super::random::Random;

/// Where the guest has what is its own, as a GPA: first its PML4, which CR3 leads to.
pub const OWN_GPA: u64 = 0x20_0000;
/// Where it has the rest: its other tables, its code, and a page of data.
const PDPT: u64 = 0x1000;
const PD: u64 = 0x2000;
const PT: u64 = 0x3000;
const CODE: u64 = 0x4000;
const SPARE: u64 = 0x5000;
/// The guest's linear addresses of its code, and of the page that it accesses.
pub const RIP: u64 = 0x40_0000;
const PAGE: u64 = 0x40_1000;
/// Where it accesses a page by a page table of its own at the GPA that is tried.
const BY_TABLE: u64 = 0x60_0000;

/// Guest entries: present.
pub const P: u64 = 1 << 0;
/// Writable.
pub const RW: u64 = 1 << 1;
/// User.
pub const US: u64 = 1 << 2;
/// Accessed.
pub const A: u64 = 1 << 5;
/// Dirty.
pub const D: u64 = 1 << 6;
/// Not executable.
pub const NX: u64 = 1 << 63;

/// SDM table 27-7: mode-based execute control for EPT.
pub const MBE: u64 = 1 << 22;

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its number, by which it is made again.
    pub number: u64,
    /// Whether the tables are NPT, and not EPT.
    pub is_npt: bool,
    /// EPTP, or nCR3.
    pub pointer: u64,
    /// What is switched on: [`MBE`], or with SVM EFER.NXE.
    pub control: u64,
    /// What the guest does at its linear address.
    pub kind: Kind,
    /// That address.
    pub linear: u64,
    /// The GPA that is tried.
    pub gpa: u64,
    /// Whether that is where the guest has a page table, and not what it accesses.
    pub is_table: bool,
    /// What it writes or adds.
    pub rax: u64,
    /// The words of memory.
    pub words: Vec<(u64, u64)>,
}

impl Case {
    /// The case with this number, for a machine.
    pub fn new(seed: u64, number: u64, machine: &Machine) -> Self {
        let random = &mut Random::new(seed, number);
        let levels = if machine.vmx == 0 {
            machine.levels
        } else if machine.capability & EptCapability::WALK_5 != 0 {
            random.pick([4, 5])
        } else {
            4
        };
        let control = match machine.vmx {
            0 => random.pick([0, 1, 1]),
            _ => {
                if random.one_in(4) {
                    machine.secondary & MBE
                } else {
                    0
                }
            }
        };
        let leaf =
            if machine.gbpages == 0 { random.pick([1, 1, 2]) } else { random.pick([1, 1, 2, 3]) };
        let is_table = random.one_in(4);
        let kind = random.pick([
            Kind::Read,
            Kind::Read,
            Kind::Write,
            Kind::Write,
            Kind::Fetch,
            Kind::Fetch,
            Kind::ReadModifyWrite,
        ]);
        // Where the bytes are, and how many of them are the same in the GPA.
        let target = DATA.start + random.below((DATA.end - DATA.start) >> 12 << 12);
        let offset = match kind {
            _ if is_table => random.below(512) * 8,
            Kind::Fetch => random.below(512) * 8,
            _ => random.below(4089),
        };
        let target = target & !0xfff | offset;
        let low = 12 + 9 * (leaf - 1);
        let mask = (1_u64 << low) - 1;
        let mut gpa = random.next() & 0xff_ffff_ffff & !mask | target & mask;
        // Not in the first GiB, which has the guest's own.
        if gpa >> 30 == 0 {
            gpa |= 1 << 30 << random.below(10);
        }
        let mut tables = Tables::new(machine.vmx != 0, random);
        tables.map(OWN_GPA, OWN.start, 2, levels, random);
        tables.map(gpa, target & !mask, leaf, levels, random);
        tables.corrupt(gpa, levels, random);
        let mut pointer = tables.root(levels);
        if machine.vmx != 0 {
            pointer |= (levels - 1) << 3 | random.pick([6, 6, 6, 0]) | random.maybe(1 << 6);
            if random.one_in(16) {
                pointer ^= 1 << random.below(64);
            }
            if random.one_in(40) {
                pointer ^= random.below(64);
            }
        }
        let mut words: Vec<(u64, u64)> = tables.entries.into_iter().collect();
        let mut leaf = P | RW | A | D | random.maybe(US);
        if random.one_in(16) {
            leaf &= !RW;
        }
        if random.one_in(16) {
            leaf |= NX;
        }
        let mut entry = gpa & !0xfff;
        if random.one_in(64) {
            // No address of this CPU.
            entry |= 1 << (machine.maxphyaddr + random.below(52 - machine.maxphyaddr));
        }
        let own = |at| OWN_GPA + at | P | RW | US | A | D;
        let mut put = |at: u64, value| words.push((OWN.start + at, value));
        put(0, own(PDPT));
        put(PDPT, own(PD));
        put(PD + (RIP >> 21) * 8, own(PT));
        put(PT, own(CODE));
        put(CODE, code(kind));
        let (linear, data) = if is_table {
            put(PD + (BY_TABLE >> 21) * 8, entry | P | RW | US | A);
            if random.one_in(3) {
                leaf &= !random.pick([A, D, A | D]);
            }
            words.push((target, (OWN_GPA + SPARE) | leaf));
            let at = if kind == Kind::Fetch { random.below(512) * 8 } else { random.below(4089) };
            (BY_TABLE + offset / 8 * 0x1000 + at, OWN.start + SPARE + at)
        } else {
            put(PT + 8, entry | leaf);
            (PAGE + offset, target)
        };
        for at in [data & !7, (data & !7) + 8] {
            if at >> 12 == data >> 12 {
                words.push((at, mark(at)));
            }
        }
        let rax = random.next();
        Self {
            number,
            is_npt: machine.vmx == 0,
            pointer,
            control,
            kind,
            linear,
            gpa,
            is_table,
            rax,
            words,
        }
    }

    /// As the program takes it.
    pub fn to_words(&self) -> Vec<u64> {
        let head = Head {
            pointer: self.pointer,
            control: self.control,
            cr3: OWN_GPA,
            rip: RIP,
            rdi: self.linear,
            rax: self.rax,
            words: self.words.len() as u64,
        };
        let words = self.words.iter().flat_map(|&(at, value)| [at, value]);
        head.to_words().into_iter().chain(words).collect()
    }
}

/// What the guest runs.
fn code(kind: Kind) -> u64 {
    u64::from_le_bytes(match kind {
        // mov rax, [rdi]; hlt
        Kind::Read => [0x48, 0x8b, 0x07, 0xf4, 0, 0, 0, 0],
        // mov [rdi], rax; hlt
        Kind::Write => [0x48, 0x89, 0x07, 0xf4, 0, 0, 0, 0],
        // lock add [rdi], rax; hlt
        Kind::ReadModifyWrite => [0xf0, 0x48, 0x01, 0x07, 0xf4, 0, 0, 0],
        // jmp rdi
        Kind::Fetch => [0xff, 0xe7, 0, 0, 0, 0, 0, 0],
    })
}

/// Tables under construction, at pages by chance.
struct Tables {
    is_ept: bool,
    /// Each table, by its level and the part of the GPA that it is for.
    tables: BTreeMap<(u64, u64), u64>,
    entries: BTreeMap<u64, u64>,
    free: Vec<u64>,
}

/// Address bits below a page or table of this level.
fn shift(level: u64) -> u64 {
    12 + 9 * (level - 1)
}

impl Tables {
    fn new(is_ept: bool, random: &mut Random) -> Self {
        // Eight tables are the most: five for the one and four more for the other.
        let pages = (TABLES.end - TABLES.start) >> 12;
        let first = random.below(pages);
        let step = random.below(pages / 2) * 2 + 1;
        let page = |number| TABLES.start + (first + number * step) % pages * 0x1000;
        let free = (0..16).map(page).collect();
        Self { is_ept, tables: BTreeMap::new(), entries: BTreeMap::new(), free }
    }

    /// The table for this GPA at a level.
    fn table(&mut self, gpa: u64, level: u64) -> u64 {
        let free = &mut self.free;
        let new = || free.pop().expect("two mappings take ten tables at most");
        *self.tables.entry((level, gpa >> shift(level + 1))).or_insert_with(new)
    }

    fn root(&mut self, levels: u64) -> u64 {
        self.table(0, levels)
    }

    /// Where the entry for this GPA is.
    fn at(&mut self, gpa: u64, level: u64) -> u64 {
        self.table(gpa, level) + (gpa >> shift(level) & 511) * 8
    }

    fn map(&mut self, gpa: u64, to: u64, leaf: u64, levels: u64, random: &mut Random) {
        for level in (leaf..=levels).rev() {
            let at = self.at(gpa, level);
            let value = if level == leaf {
                to | self.leaf(leaf, random)
            } else {
                self.table(gpa, level - 1) | self.link(random)
            };
            self.entries.entry(at).or_insert(value);
        }
    }

    /// The lower and upper bits of an entry that maps a page.
    fn leaf(&self, level: u64, random: &mut Random) -> u64 {
        let large = if level == 1 { 0 } else { 1 << 7 };
        if self.is_ept {
            let memory_type = random.pick([6, 6, 6, 0, 1, 4, 5]);
            // IPAT, accessed, dirty, and what is ignored without its control.
            let any = 1 << 6 | 0xb << 8 | 0xfff << 52;
            7 << 0 | 1 << 10 | memory_type << 3 | large | random.maybe(any)
        } else {
            // PWT, PCD, accessed, dirty, global, and what is ignored.
            let any = 0x1f << 3 | 0xe << 8 | 0x7ff << 52;
            7 | large | random.maybe(any) & !(1 << 7)
        }
    }

    /// Those of one that leads to a table.
    fn link(&self, random: &mut Random) -> u64 {
        if self.is_ept {
            7 | 1 << 10 | random.maybe(0xb << 8 | 0xfff << 52)
        } else {
            7 | random.maybe(7 << 3 | 1 << 6 | 0xe << 8 | 0x7ff << 52)
        }
    }

    /// Turns some of the way to a GPA over.
    fn corrupt(&mut self, gpa: u64, levels: u64, random: &mut Random) {
        let mut way = Vec::new();
        for level in (1..=levels).rev() {
            // Below a large page there is nothing.
            let Some(table) = self.tables.get(&(level, gpa >> shift(level + 1))) else { break };
            way.push((table + (gpa >> shift(level) & 511) * 8, level));
        }
        for _ in 0..random.pick([0, 1, 1, 1, 2, 3]) {
            // Rather further down, where the guest's own is not found as well.
            let [one, other] = [(); 2].map(|()| random.below(way.len() as u64) as usize);
            let (at, level) = way[one.max(other)];
            let Some(entry) = self.entries.get_mut(&at) else { continue };
            match random.below(10) {
                // Other rights; now and then such as there may not be.
                0..5 if self.is_ept => {
                    *entry &= !0x407;
                    *entry |= random.pick([0, 1, 1, 3, 3, 4, 4, 5, 5, 2, 6]);
                    *entry |= random.maybe(1 << 10);
                }
                0..5 => *entry ^= random.pick([2, 4, 1 << 63, 6, 1, 7]),
                // Another memory type.
                5 if self.is_ept => *entry ^= random.below(8) << 3,
                // Bits that are no address bits of this CPU.
                6 => *entry ^= 1 << random.pick([40, 41, 45, 50, 51]),
                // Address bits below a large page.
                7 if level > 1 => *entry ^= 1 << (12 + random.below(shift(level) - 12)),
                8 => *entry ^= 1 << 7,
                // Any that is no address bit.
                _ => *entry ^= 1 << ((52 + random.below(24)) % 64),
            }
        }
    }
}
