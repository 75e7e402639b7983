//! A case: tables and an access, made by chance.

use ept_trace::ept::{EptCapability, Kind};
use walker::protocol::{Case as Head, DATA, INFORMATION, LOG, MBE, Machine, OWN, PML, VE, mark};

use super::random::Random;
use super::tables::Tables;

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

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its number, by which it is made again.
    pub number: u64,
    /// Whether the tables are NPT, and not EPT.
    pub is_npt: bool,
    /// EPTP, or nCR3.
    pub pointer: u64,
    /// What is switched on: [`MBE`], [`VE`] and [`PML`], or with SVM EFER.NXE.
    pub control: u64,
    /// The PML index, which counts with [`PML`] alone.
    pub pml_index: u16,
    /// What the guest does at its linear address.
    pub kind: Kind,
    /// That address.
    pub linear: u64,
    /// What it writes or adds.
    pub rax: u64,
    /// The words of memory.
    pub words: Vec<(u64, u64)>,
}

/// The page that is tried.
struct Tried {
    /// The GPA: of what the guest accesses, or of an entry of its page table.
    gpa: u64,
    /// Where that should lead.
    target: u64,
    /// The level of the entry that maps it.
    leaf: u64,
}

impl Tried {
    /// Where the bytes are says how many bits of the GPA are the same.
    fn new(offset: u64, machine: &Machine, random: &mut Random) -> Self {
        let largest = [1, 1, 2, 3];
        let leaf = random.pick(largest).min(2 + machine.gbpages);
        let page = DATA.start + random.below((DATA.end - DATA.start) >> 12) * 0x1000;
        let target = page | offset;
        let mask = (1 << (12 + 9 * (leaf - 1))) - 1;
        let mut gpa = random.below(1 << machine.maxphyaddr) & !mask | target & mask;
        // Not in the first GiB, which has the guest's own.
        if gpa >> 30 == 0 {
            gpa |= 1 << (30 + random.below(machine.maxphyaddr - 30));
        }
        Self { gpa, target, leaf }
    }

    /// The page that maps it.
    fn page(&self) -> u64 {
        self.target & !((1 << (12 + 9 * (self.leaf - 1))) - 1)
    }
}

impl Case {
    /// The case with this number, for a machine.
    pub fn new(seed: u64, number: u64, machine: &Machine) -> Self {
        let random = &mut Random::new(seed, number);
        let is_npt = machine.vmx == 0;
        let control = control(machine, random);
        let kind = random.pick([
            Kind::Read,
            Kind::Read,
            Kind::Write,
            Kind::Write,
            Kind::Fetch,
            Kind::Fetch,
            Kind::ReadModifyWrite,
        ]);
        let is_table = random.one_in(4);
        let entry = random.below(512);
        // Code is found at marks.
        let offset = if kind == Kind::Fetch { entry * 8 } else { random.below(4089) };
        let tried = Tried::new(if is_table { entry * 8 } else { offset }, machine, random);

        let levels = levels(machine, random);
        let mut tables = Tables::new(!is_npt, random);
        tables.map(OWN_GPA, OWN.start, 2, levels, random);
        tables.map(tried.gpa, tried.page(), tried.leaf, levels, random);
        tables.corrupt(tried.gpa, levels, random);
        let root = tables.root(levels);
        let pointer = if is_npt { root } else { eptp(root, levels, random) };

        let mut guest = Guest { words: tables.entries().into_iter().collect() };
        guest.runs(kind);
        let (linear, data) = if is_table {
            guest.has_table_at(&tried, machine, random);
            (BY_TABLE + entry * 0x1000 + offset, OWN.start + SPARE + offset)
        } else {
            guest.has_page_at(&tried, machine, random);
            (PAGE + offset, tried.target)
        };
        guest.has_marks_at(data);
        let pml_index = random.pick([0, 1, 300, 511, 512, 0xffff]);
        if control & PML != 0 {
            guest.is_logged(pml_index);
        }
        if control & VE != 0 {
            // A virtualization exception is not delivered while the second half is not 0.
            let busy = if random.one_in(4) { 1 << 32 } else { 0 };
            let area = [busy, 0, 0, 0, 0];
            guest.words.extend((INFORMATION..).step_by(8).zip(area));
        }
        let rax = random.next();
        let words = guest.words;
        Self { number, is_npt, pointer, control, pml_index, kind, linear, rax, words }
    }

    /// As the program takes it.
    pub fn to_words(&self) -> Vec<u64> {
        let head = Head {
            pointer: self.pointer,
            control: self.control,
            pml_index: self.pml_index.into(),
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

fn control(machine: &Machine, random: &mut Random) -> u64 {
    if machine.vmx == 0 {
        random.pick([0, 1, 1])
    } else {
        let chosen = [MBE, VE, PML].map(|bit| if random.one_in(4) { bit } else { 0 });
        machine.secondary & (chosen[0] | chosen[1] | chosen[2])
    }
}

fn levels(machine: &Machine, random: &mut Random) -> u64 {
    match machine.vmx {
        0 => machine.levels,
        _ if machine.capability & EptCapability::WALK_5 == 0 => 4,
        _ => random.pick([4, 5]),
    }
}

/// Mostly a right one.
fn eptp(root: u64, levels: u64, random: &mut Random) -> u64 {
    let mut eptp = root | (levels - 1) << 3 | random.pick([6, 6, 6, 0]) | random.maybe(1 << 6);
    if random.one_in(16) {
        eptp ^= 1 << random.below(64);
    }
    if random.one_in(40) {
        eptp ^= random.below(64);
    }
    eptp
}

/// The guest's memory under construction.
struct Guest {
    words: Vec<(u64, u64)>,
}

impl Guest {
    fn put(&mut self, at: u64, value: u64) {
        self.words.push((OWN.start + at, value));
    }

    /// Its code, and the tables that lead to it.
    fn runs(&mut self, kind: Kind) {
        let all = P | RW | US | A | D;
        self.put(0, (OWN_GPA + PDPT) | all);
        self.put(PDPT, (OWN_GPA + PD) | all);
        self.put(PD + (RIP >> 21) * 8, (OWN_GPA + PT) | all);
        self.put(PT, (OWN_GPA + CODE) | all);
        self.put(CODE, code(kind));
    }

    /// Its page table is at the GPA, and leads to a page of its own.
    fn has_table_at(&mut self, tried: &Tried, machine: &Machine, random: &mut Random) {
        let table = address(tried.gpa, machine, random) | P | RW | US | A;
        self.put(PD + (BY_TABLE >> 21) * 8, table);
        let flags = random.pick([0, 0, 0, A, D, A | D]);
        self.words.push((tried.target, (OWN_GPA + SPARE) | rights(random) & !flags));
    }

    /// The page that it accesses is at the GPA.
    fn has_page_at(&mut self, tried: &Tried, machine: &Machine, random: &mut Random) {
        let page = address(tried.gpa, machine, random);
        self.put(PT + 8, page | rights(random));
    }

    /// There are marks where the eight bytes are that it accesses.
    fn has_marks_at(&mut self, data: u64) {
        let word = data & !7;
        let marks = [word, word + 8].into_iter().filter(|at| at >> 12 == data >> 12);
        self.words.extend(marks.map(|at| (at, mark(at))));
    }

    /// There is a page-modification log, which is filled from this index down.
    fn is_logged(&mut self, index: u16) {
        let indices = (0..512).rev().filter(|at| *at <= u64::from(index)).take(6);
        self.words.extend(indices.map(|at| (LOG + at * 8, 0)));
    }
}

/// The address of a page, now and then one that this CPU does not have.
fn address(gpa: u64, machine: &Machine, random: &mut Random) -> u64 {
    let beyond = machine.maxphyaddr + random.below(52 - machine.maxphyaddr);
    gpa & !0xfff | if random.one_in(64) { 1 << beyond } else { 0 }
}

/// What a guest's entry allows that maps a page: mostly all.
fn rights(random: &mut Random) -> u64 {
    let writable = if random.one_in(16) { 0 } else { RW };
    let not_executable = if random.one_in(16) { NX } else { 0 };
    P | writable | not_executable | A | D | random.maybe(US)
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
