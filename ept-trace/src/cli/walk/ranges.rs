//! The whole of a table, as ranges of addresses that are mapped alike.

use super::root::Root;
use super::words::is_kvm_mmio;
use crate::ept::{Access, MemoryType, Outcome, PhysRead, Rights, Step, Trail, Walk};
use crate::model::{Gpa, Hpa};

/// More tables than this are not visited: 2 TB in pages of 4 KiB. Tables that share tables below
/// them, in a damaged dump, would otherwise be many more than there are pages.
const MOST_TABLES: u64 = 1 << 20;

/// What a range of addresses leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Memory, in pages of one size.
    Mapped { hpa: Hpa, level: u8, rights: Rights, memory: Option<(MemoryType, bool)> },
    /// Nothing.
    NotPresent,
    /// An entry that KVM misconfigured on purpose: a device.
    KvmMmio,
    /// An entry that faults whatever the access is.
    Wrong { level: u8, why: String },
    /// This table is not in the dump.
    Missing { table: Hpa, level: u8 },
    /// This table, at this level, is one above it as well.
    Loop { table: Hpa, level: u8 },
    /// Not looked at: too many tables.
    NotVisited,
}

/// Addresses that are mapped alike; what is mapped lies together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u64,
    /// The last address.
    pub end: u64,
    pub state: State,
}

impl Range {
    /// Takes `next` in, if it goes on where this ends.
    fn join(&mut self, next: &Self) -> bool {
        let is_alike = match (&self.state, &next.state) {
            (State::Mapped { hpa, .. }, State::Mapped { hpa: at, .. }) => {
                let goes_on = Hpa(hpa.0 + (next.start - self.start));
                goes_on == *at && {
                    let mut moved = next.state.clone();
                    if let State::Mapped { hpa: at, .. } = &mut moved {
                        *at = *hpa;
                    }
                    moved == self.state
                }
            }
            (one, other) => one == other,
        };
        if is_alike {
            self.end = next.end;
        }
        is_alike
    }
}

/// The ranges of a table, from address 0 up.
pub(super) struct Ranges<'a, M> {
    root: &'a Root,
    memory: &'a M,
    /// The next address to look at; nothing when all were.
    at: Option<u64>,
    /// The range that may go on.
    open: Option<Range>,
    /// The tables of the last walk, and how many more may be visited.
    last: Trail,
    tables_left: u64,
}

impl<'a, M: PhysRead> Ranges<'a, M> {
    /// Of a table.
    pub(super) fn new(root: &'a Root, memory: &'a M) -> Self {
        Self {
            root,
            memory,
            at: Some(0),
            open: None,
            last: Trail::default(),
            tables_left: MOST_TABLES,
        }
    }

    /// The last address that a walk can begin with.
    fn end(&self) -> u64 {
        u64::MAX >> (64 - u32::from(self.root.gpa_width))
    }

    /// What the entry that decides at `start` says, for all addresses that it decides for.
    fn piece(&mut self, start: u64) -> Range {
        let walk = self.root.walk(self.memory, Gpa(start), &Access::READ);
        if !self.may_visit(&walk.trail) {
            return Range { start, end: self.end(), state: State::NotVisited };
        }
        let (level, state) = loops(&walk.trail).unwrap_or_else(|| self.state(&walk));
        let end = start | ((1 << (12 + 9 * (u32::from(level) - 1))) - 1);
        Range { start, end: end.min(self.end()), state }
    }

    /// Counts the tables that the last walk did not come to, or not this way; whether there were
    /// not too many yet.
    fn may_visit(&mut self, trail: &Trail) -> bool {
        let is_same =
            |(one, other): &(&Step, &Step)| (one.table, one.index) == (other.table, other.index);
        let same = trail.iter().zip(self.last.iter()).take_while(is_same).count();
        // The entry after those is another one of the same table, but in the first walk.
        let known = if self.last.is_empty() { 0 } else { same + 1 };
        self.last = *trail;
        let left = self.tables_left.checked_sub(trail.len().saturating_sub(known) as u64);
        self.tables_left = left.unwrap_or_default();
        left.is_some()
    }

    /// The level of the entry that decides, and what it says.
    fn state(&self, walk: &Walk) -> (u8, State) {
        if let Outcome::NotInDump { at, level } = walk.outcome {
            return (level, State::Missing { table: Hpa(at.0 & !0xfff), level });
        }
        let Some(step) = walk.trail.last() else {
            // Only an address that is too wide has no entry; end() keeps them out.
            return (self.root.levels, State::NotPresent);
        };
        let level = step.level;
        let bits = self.root.describe(step.entry, level);
        let state = match (&walk.outcome, bits.address) {
            (Outcome::Misconfiguration { .. }, _) if is_kvm_mmio(step) => State::KvmMmio,
            (Outcome::Misconfiguration { reasons, .. }, _) => {
                State::Wrong { level, why: reasons.to_string() }
            }
            (_, None) => State::NotPresent,
            (_, Some(_)) if bits.reserved != 0 => {
                State::Wrong { level, why: format!("reserved bits {:#x} are set", bits.reserved) }
            }
            // Be it readable or not.
            (_, Some(hpa)) => {
                let rights = walk.trail.iter().map(|step| self.root.rights(step.entry));
                State::Mapped {
                    hpa: Hpa(hpa.0),
                    level,
                    rights: rights.fold(Rights::all(), |all, rights| all & rights),
                    memory: self.memory_type(step.entry),
                }
            }
        };
        (level, state)
    }

    /// The memory type of an EPT leaf, and whether the guest's PAT is ignored.
    fn memory_type(&self, entry: u64) -> Option<(MemoryType, bool)> {
        if self.root.is_npt() {
            return None;
        }
        MemoryType::of(entry >> 3 & 7).map(|memory_type| (memory_type, entry & 1 << 6 != 0))
    }
}

/// The entry that leads back to a table above it, if one does.
fn loops(trail: &Trail) -> Option<(u8, State)> {
    let (at, step) = trail
        .iter()
        .enumerate()
        .find(|(at, step)| trail[..*at].iter().any(|above| above.table == step.table))?;
    let level = trail[at - 1].level;
    Some((level, State::Loop { table: step.table, level: step.level }))
}

impl<M: PhysRead> Iterator for Ranges<'_, M> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        while let Some(at) = self.at {
            let piece = self.piece(at);
            self.at = (piece.end < self.end()).then(|| piece.end + 1);
            if self.open.as_mut().is_some_and(|open| open.join(&piece)) {
                continue;
            }
            if let Some(done) = self.open.replace(piece) {
                return Some(done);
            }
        }
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::cli::walk::root::{Pointer, TheCpu};
    use crate::ept::EptCapability;

    #[derive(Default)]
    struct Tables(HashMap<u64, [u64; 512]>);

    impl Tables {
        fn set(&mut self, table: u64, index: usize, entry: u64) {
            self.0.entry(table).or_insert([0; 512])[index] = entry;
        }
    }

    impl PhysRead for Tables {
        fn read_u64(&self, at: Hpa) -> Option<u64> {
            let table = self.0.get(&(at.0 & !0xfff))?;
            Some(table[usize::try_from(at.0 >> 3 & 0x1ff).unwrap()])
        }
    }

    /// A 4-level EPT at 0x1000 of a CPU with 40 bits, so that two PML4Es are of use.
    fn root(tables: &Tables) -> Root {
        let cpu = TheCpu {
            maxphyaddr: 40,
            capability: EptCapability(u64::MAX),
            mbe: false,
            levels: None,
            assumed: Vec::new(),
        };
        Root::new(Pointer::Eptp(0x101e), &cpu, tables, None).ok().expect("a valid EPTP")
    }

    /// Each range as start, end and what it leads to.
    fn ranges(tables: &Tables) -> Vec<(u64, u64, String)> {
        let root = root(tables);
        Ranges::new(&root, tables)
            .map(|range| {
                let what = match range.state {
                    State::Mapped { hpa, level, rights, memory } => {
                        let (memory_type, ipat) = memory.expect("EPT has one");
                        let ipat = if ipat { " ipat" } else { "" };
                        format!("{hpa} {level} {rights} {}{ipat}", memory_type.name())
                    }
                    State::Missing { table, level } => format!("missing {table} {level}"),
                    State::Loop { table, level } => format!("loop {table} {level}"),
                    other => format!("{other:?}"),
                };
                (range.start, range.end, what)
            })
            .collect()
    }

    const LAST: u64 = (1 << 40) - 1;

    /// PML4 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        tables.set(0x1000, 0, 0x2007);
        tables.set(0x2000, 0, 0x3007);
        tables.set(0x3000, 0, 0x4007);
        tables.set(0x4000, 511, 0);
        tables
    }

    fn hole(start: u64, end: u64) -> (u64, u64, String) {
        (start, end, "NotPresent".to_owned())
    }

    #[test]
    fn pages_that_lie_together_are_one_range() {
        let mut tables = tables();
        // Two that go on, one elsewhere, one read-only, one UC, one with IPAT.
        for (index, entry) in
            [(1, 0x70037), (2, 0x71037), (3, 0x90037), (4, 0x91031), (5, 0x92001), (6, 0x93071)]
        {
            tables.set(0x4000, index, entry);
        }
        assert_eq!(
            ranges(&tables),
            [
                hole(0, 0xfff),
                (0x1000, 0x2fff, "0x70000 1 rwx WB".to_owned()),
                (0x3000, 0x3fff, "0x90000 1 rwx WB".to_owned()),
                (0x4000, 0x4fff, "0x91000 1 r-- WB".to_owned()),
                (0x5000, 0x5fff, "0x92000 1 r-- UC".to_owned()),
                (0x6000, 0x6fff, "0x93000 1 r-- WB ipat".to_owned()),
                hole(0x7000, LAST),
            ]
        );
    }

    #[test]
    fn pages_of_another_size_are_another_range() {
        let mut tables = tables();
        for index in 0..512 {
            tables.set(0x4000, index, (index as u64) << 12 | 0x37);
        }
        tables.set(0x3000, 1, 0x2000b7);
        tables.set(0x2000, 1, 0x400000b7);
        assert_eq!(
            ranges(&tables),
            [
                (0, 0x1fffff, "0x0 1 rwx WB".to_owned()),
                (0x200000, 0x3fffff, "0x200000 2 rwx WB".to_owned()),
                hole(0x400000, 0x3fffffff),
                (0x40000000, 0x7fffffff, "0x40000000 3 rwx WB".to_owned()),
                hole(0x80000000, LAST),
            ]
        );
    }

    #[test]
    fn rights_are_those_of_all_levels_and_execute_only_is_mapped() {
        let mut tables = tables();
        tables.set(0x2000, 0, 0x3005);
        tables.set(0x4000, 0, 0x70037);
        tables.set(0x4000, 1, 0x71034);
        let found = ranges(&tables);
        assert_eq!(found[0], (0, 0xfff, "0x70000 1 r-x WB".to_owned()));
        assert_eq!(found[1], (0x1000, 0x1fff, "0x71000 1 --x WB".to_owned()));
    }

    #[test]
    fn kvms_mark_of_mmio_is_told_from_what_is_wrong() {
        let mut tables = tables();
        tables.set(0x4000, 0, 0x8000_0000_0fee_0006);
        tables.set(0x4000, 1, 0x8000_0000_0fee_1006);
        tables.set(0x4000, 2, 0x7003f);
        tables.set(0x3000, 1, 0x8000_0000_0fee_0006);
        let found = ranges(&tables);
        assert_eq!(found[0], (0, 0x1fff, "KvmMmio".to_owned()));
        assert_eq!(found[1].0..=found[1].1, 0x2000..=0x2fff);
        assert!(found[1].2.starts_with("Wrong { level: 1"), "{}", found[1].2);
        // KVM marks PTEs alone.
        assert!(found[3].2.starts_with("Wrong { level: 2"), "{}", found[3].2);
    }

    #[test]
    fn a_table_that_is_not_in_the_dump_is_no_hole() {
        let mut tables = tables();
        tables.set(0x3000, 1, 0x5007);
        let found = ranges(&tables);
        assert_eq!(found[1], (0x200000, 0x3fffff, "missing 0x5000 1".to_owned()));
        assert_eq!(found[2], hole(0x400000, LAST));
        assert_eq!(ranges(&Tables::default()), [(0, LAST, "missing 0x1000 4".to_owned())]);
    }

    #[test]
    fn a_table_that_leads_to_itself_does_not_go_on_for_ever() {
        let mut tables = tables();
        for index in 0..512 {
            tables.set(0x1000, index, 0x1007);
        }
        assert_eq!(ranges(&tables), [(0, LAST, "loop 0x1000 3".to_owned())]);
        let mut tables = self::tables();
        tables.set(0x3000, 7, 0x2007);
        assert_eq!(ranges(&tables)[1], (7 << 21, (8 << 21) - 1, "loop 0x2000 1".to_owned()));
    }

    #[test]
    fn tables_that_share_those_below_end_at_the_most_tables() {
        let mut tables = tables();
        for index in 0..512 {
            tables.set(0x2000, index, 0x3007);
            tables.set(0x3000, index, 0x4007);
        }
        let root = root(&tables);
        let mut ranges = Ranges::new(&root, &tables);
        ranges.tables_left = 10;
        let found: Vec<Range> = ranges.collect();
        // PML4, PDPT, PD, and 7 times the PT.
        let unseen = Range { start: 7 << 21, end: LAST, state: State::NotVisited };
        assert_eq!(found.last(), Some(&unseen));
    }
}
