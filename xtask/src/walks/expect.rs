//! What the oracle says of a case: the guest's accesses one after the other, each walked.

use std::collections::BTreeMap;

use ept_trace::ept::{
    Access, Convertible, GuestLeaf, InvalidPointer, Kind, NestedFault, Outcome, Stage, Step, Trail,
    Translation, Violation, Walk,
};
use walker::protocol::{DATA, INFORMATION, LOG, Machine, OWN, PML};

use super::case::{A, Case, D, NX, OWN_GPA, P, RIP, RW, US};
use super::memory::Memory;
use super::oracle::{Seen, Tables};
use super::quirk::Quirk;

/// How the guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// VM entry refuses the EPTP.
    Refused(InvalidPointer),
    /// It halts, with this in RAX.
    Halted(u64),
    /// Its own paging faults, at this linear address.
    PageFault(u64),
    /// EPT or NPT does not let this access through, or the log is full.
    Stopped {
        /// The GPA.
        gpa: u64,
        /// What comes of it.
        walk: Walk,
    },
}

/// What should come of a case.
#[derive(Debug, Clone)]
pub struct Expected {
    /// How the guest ends.
    pub end: End,
    /// What is in memory then.
    pub memory: Memory,
}

/// What the oracle says, but for these quirks; `None` if the case leads out of the memory that there is, or the guest to
/// what is no program of ours.
pub fn expect(case: &Case, machine: &Machine, quirks: &[Quirk]) -> Option<Expected> {
    let mut memory = Memory::new(case.words.iter().copied());
    let pml_index = (case.control & PML != 0 && !case.is_npt).then_some(case.pml_index);
    let tables = match Tables::new(case, machine, pml_index) {
        Ok(tables) => tables,
        Err(wrong) => return Some(Expected { end: End::Refused(wrong), memory }),
    };
    let unseen = BTreeMap::new();
    let mut guest = Guest { case, machine, quirks, tables, pml_index, memory: &mut memory, unseen };
    let end = match guest.run() {
        Ok(rax) => End::Halted(rax),
        Err(Stop::End(end)) => *end,
        Err(Stop::Unknown) => return None,
    };
    Some(Expected { end, memory })
}

/// What ends it.
enum Stop {
    End(Box<End>),
    Unknown,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(Box::new(end))
    }
}

/// The guest on its way.
struct Guest<'a> {
    case: &'a Case,
    machine: &'a Machine,
    quirks: &'a [Quirk],
    tables: Tables,
    pml_index: Option<u16>,
    memory: &'a mut Memory,
    unseen: BTreeMap<u64, u64>,
}

/// EPTP bit 6.
const ACCESSED_DIRTY: u64 = 1 << 6;
/// The address in an entry of the guest's tables.
const ADDRESS: u64 = 0xf_ffff_ffff_f000;

impl Guest<'_> {
    /// Fetches its instruction, and does what that says.
    fn run(&mut self) -> Result<u64, Stop> {
        self.translate(RIP, Kind::Fetch)?;
        let case = self.case;
        if case.kind == Kind::ReadModifyWrite && self.has(Quirk::ReadsBeforeWriting) {
            self.translate(case.linear, Kind::Read)?;
        }
        let at = self.translate(case.linear, case.kind)?;
        // Elsewhere nothing is known to be there, or to be put back.
        let known = DATA.contains(&at) || OWN.contains(&at);
        let known = |value: Option<u64>| value.filter(|_| known).ok_or(Stop::Unknown);
        let old = known(self.memory.load(at))?;
        match case.kind {
            Kind::Read => Ok(old),
            Kind::Write => known(self.memory.store(at, case.rax).map(|()| case.rax)),
            Kind::ReadModifyWrite => {
                known(self.memory.store(at, old.wrapping_add(case.rax)).map(|()| case.rax))
            }
            // `mov eax, imm32; hlt`
            Kind::Fetch if old & 0xff == 0xb8 && old >> 40 & 0xff == 0xf4 => {
                Ok(old >> 8 & 0xffff_ffff)
            }
            Kind::Fetch => Err(Stop::Unknown),
        }
    }

    /// A linear address to where its bytes are.
    fn translate(&mut self, linear: u64, kind: Kind) -> Result<u64, Stop> {
        let fault = || End::PageFault(linear).into();
        let is_write = matches!(kind, Kind::Write | Kind::ReadModifyWrite);
        let reserved = ADDRESS & u64::MAX << self.machine.maxphyaddr;
        let mut access = Access { kind, ..Access::default() };
        let (mut all, mut any) = (u64::MAX, 0);
        let mut gpa = OWN_GPA;
        for level in (1..=4).rev() {
            gpa |= (linear >> (12 + 9 * (level - 1)) & 511) * 8;
            let read = Access { stage: Stage::GuestTableRead, ..access };
            let at = self.access(linear, gpa, &read)?;
            let entry = self.memory.word(at).ok_or(Stop::Unknown)?;
            if entry & P == 0 || entry & reserved != 0 {
                return Err(fault());
            }
            (all, any) = (all & entry, any | entry);
            let leaf = level == 1;
            if leaf {
                if is_write && all & RW == 0 || kind == Kind::Fetch && any & NX != 0 {
                    return Err(fault());
                }
                access.user = all & US != 0;
            }
            let flags = if leaf && is_write { A | D } else { A };
            if entry & flags != flags {
                let update = Access { stage: Stage::GuestTableUpdate, ..access };
                self.access(linear, gpa, &update)?;
                self.memory.set_word(at, entry | flags).ok_or(Stop::Unknown)?;
            }
            gpa = entry & ADDRESS;
        }
        access.guest_leaf =
            Some(GuestLeaf { user: all & US != 0, writable: all & RW != 0, nx: any & NX != 0 });
        self.access(linear, gpa | linear & 0xfff, &access)
    }

    /// One access to a GPA: where it leads.
    fn access(&mut self, linear: u64, gpa: u64, access: &Access) -> Result<u64, Stop> {
        if access.stage == Stage::GuestTableUpdate && self.has(Quirk::FlagsSetUnasked) {
            // Unused, for the word is the one just read.
            return Ok(gpa);
        }
        let is_full = self.pml_index.is_some_and(|index| index > 511);
        if is_full && self.case.pointer & ACCESSED_DIRTY != 0 && self.has(Quirk::LogFullFirst) {
            let walk = Walk { outcome: Outcome::LogFull, trail: Trail::default() };
            return Err(End::Stopped { gpa, walk }.into());
        }
        let mut walk = self.walk(gpa, access);
        self.misreport(access, &mut walk.outcome);
        match walk.outcome {
            Outcome::Translation(translation) => {
                self.set_flags(&walk.trail, &translation)?;
                if translation.dirty {
                    self.log(gpa)?;
                }
                Ok(translation.hpa.0)
            }
            Outcome::NotInDump { .. } | Outcome::GpaNotRepresentable => Err(Stop::Unknown),
            Outcome::Violation(violation) if violation.convertible == Convertible::Yes => {
                self.convert(&violation, linear, gpa)?;
                Err(End::Stopped { gpa, walk }.into())
            }
            _ => Err(End::Stopped { gpa, walk }.into()),
        }
    }

    /// SDM 31.3.6: the page is logged, at the index, which goes down.
    fn log(&mut self, gpa: u64) -> Result<(), Stop> {
        let Some(index) = self.pml_index else { return Ok(()) };
        self.memory.set_word(LOG + u64::from(index) * 8, gpa & !0xfff).ok_or(Stop::Unknown)?;
        self.pml_index = Some(index.wrapping_sub(1));
        self.tables =
            Tables::new(self.case, self.machine, self.pml_index).map_err(|_| Stop::Unknown)?;
        Ok(())
    }

    /// SDM 28.5.8.2: a virtualization exception, with what the guest is told of it.
    fn convert(&mut self, violation: &Violation, linear: u64, gpa: u64) -> Result<(), Stop> {
        if self.memory.word(INFORMATION).ok_or(Stop::Unknown)? >> 32 != 0 {
            return Ok(());
        }
        let reason = 0x30 | 0xffff_ffff << 32;
        let words = [reason, violation.qualification, linear, gpa, 0];
        for (at, word) in (INFORMATION..).step_by(8).zip(words) {
            self.memory.set_word(at, word).ok_or(Stop::Unknown)?;
        }
        Ok(())
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// Walks, past bits that the CPU does not look at.
    fn walk(&mut self, gpa: u64, access: &Access) -> Walk {
        loop {
            let seen = Seen { memory: self.memory, unseen: &self.unseen };
            let walk = self.tables.walk(&seen, gpa, access);
            let Some(last) = walk.trail.last() else { return walk };
            let bits = self.not_looked_at(last);
            if bits == 0 {
                return walk;
            }
            *self.unseen.entry(address(last)).or_default() |= bits;
        }
    }

    fn not_looked_at(&self, step: &Step) -> u64 {
        let is_large = (2..=3).contains(&step.level) && step.entry & 1 << 7 != 0;
        if step.level >= 4 && self.has(Quirk::RootGlobalIgnored) {
            step.entry & 1 << 8
        } else if is_large && self.has(Quirk::LargeBit12Ignored) {
            step.entry & 1 << 12
        } else {
            0
        }
    }

    /// What the CPU tells otherwise than it is.
    fn misreport(&self, access: &Access, outcome: &mut Outcome) {
        match outcome {
            Outcome::NestedFault(NestedFault { exitinfo1, .. })
                if *exitinfo1 & 1 << 3 != 0 && self.has(Quirk::ReservedNotPresent) =>
            {
                *exitinfo1 &= !1;
            }
            Outcome::Violation(Violation { qualification, mask, .. }) => {
                let is_table = access.stage == Stage::GuestTableRead;
                if is_table && *qualification & 3 == 3 && self.has(Quirk::TableAccessNotRead) {
                    *qualification &= !1;
                }
                let is_data = is_table || access.kind != Kind::Fetch;
                if is_data && *mask & 1 << 6 != 0 && self.has(Quirk::UserExecuteMisplaced) {
                    *qualification |= (*qualification & 1 << 6) << 7;
                    *qualification &= !(1 << 6);
                }
            }
            _ => {}
        }
    }

    fn set_flags(&mut self, trail: &Trail, translation: &Translation) -> Result<(), Stop> {
        let (accessed, dirty) = self.tables.flags();
        for step in trail.iter() {
            let mut flags = 0;
            if translation.sets_accessed(step.level) {
                flags |= accessed;
            }
            if translation.dirty && step.level == translation.level {
                flags |= dirty;
            }
            if flags != 0 {
                let at = address(step);
                let entry = self.memory.word(at).ok_or(Stop::Unknown)?;
                self.memory.set_word(at, entry | flags).ok_or(Stop::Unknown)?;
            }
        }
        Ok(())
    }
}

/// Where an entry of a walk is.
pub fn address(step: &Step) -> u64 {
    step.table.0 | u64::from(step.index) << 3
}
