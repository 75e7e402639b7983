//! The whole of a table, as ranges of addresses that are mapped alike.

use super::root::Root;
use super::words::is_kvm_mmio;
use crate::ept::{Access, MemoryType, Outcome, PhysRead, Rights, Trail, Walk};
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
    /// The tables of the last walk, and how many there were in all.
    last: Trail,
    tables: u64,
}

impl<'a, M: PhysRead> Ranges<'a, M> {
    /// Of a table.
    pub(super) fn new(root: &'a Root, memory: &'a M) -> Self {
        Self { root, memory, at: Some(0), open: None, last: Trail::default(), tables: 0 }
    }

    /// The last address that a walk can begin with.
    fn end(&self) -> u64 {
        u64::MAX >> (64 - u32::from(self.root.gpa_width))
    }

    /// What the entry that decides at `start` says, for all addresses that it decides for.
    fn piece(&mut self, start: u64) -> Range {
        let walk = self.root.walk(self.memory, Gpa(start), &Access::READ);
        self.count(&walk.trail);
        if self.tables > MOST_TABLES {
            return Range { start, end: self.end(), state: State::NotVisited };
        }
        let (level, state) = loops(&walk.trail).unwrap_or_else(|| self.state(&walk));
        let end = start | ((1 << (12 + 9 * (u32::from(level) - 1))) - 1);
        Range { start, end: end.min(self.end()), state }
    }

    /// Counts the tables that the last walk did not use.
    fn count(&mut self, trail: &Trail) {
        let is_new = |(at, step): &(usize, &crate::ept::Step)| {
            self.last.get(*at).is_none_or(|last| last.table != step.table)
        };
        // Once one is another, those below it are visited anew.
        let first = trail.iter().enumerate().find(is_new).map_or(trail.len(), |(at, _)| at);
        self.tables += (trail.len() - first) as u64;
        self.last = *trail;
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
            (Outcome::Misconfiguration { .. }, _) if is_kvm_mmio(step.entry) => State::KvmMmio,
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
