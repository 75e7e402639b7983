//! What comes of a walk.

use std::fmt;
use std::ops::Deref;

use bitflags::bitflags;

use super::bits::shift;
use super::{LeafMemory, Misconfiguration};
use crate::model::Hpa;

bitflags! {
    /// What entries allow, each ANDed over all entries of a walk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u8 {
        /// Data reads.
        const READ = 1 << 0;
        /// Data writes.
        const WRITE = 1 << 1;
        /// Fetches; with mode-based execute control those from supervisor-mode addresses.
        const EXECUTE = 1 << 2;
        /// EPT with mode-based execute control: fetches from user-mode addresses. NPT: U/S.
        const USER = 1 << 3;
    }
}

impl fmt::Display for Rights {
    /// Such as `r-x`, with a `u` after it if that is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |right, letter| if self.contains(right) { letter } else { "-" };
        f.write_str(letter(Rights::READ, "r"))?;
        f.write_str(letter(Rights::WRITE, "w"))?;
        f.write_str(letter(Rights::EXECUTE, "x"))?;
        f.write_str(if self.contains(Rights::USER) { "u" } else { "" })
    }
}

/// One entry that a walk used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// 5 (PML5E) to 1 (PTE).
    pub level: u8,
    /// The table that holds the entry.
    pub table: Hpa,
    /// Which of its entries, 0 to 511.
    pub index: u16,
    /// The entry.
    pub entry: u64,
}

/// The entries that a walk used, from the root down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    steps: [Step; 5],
    length: usize,
}

impl Trail {
    /// There are 5 levels at most; a step after the fifth is dropped.
    pub(super) fn push(&mut self, step: Step) {
        if let Some(free) = self.steps.get_mut(self.length) {
            *free = step;
            self.length += 1;
        }
    }
}

impl Deref for Trail {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.steps[..self.length]
    }
}

/// A walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// What came of it.
    pub outcome: Outcome,
    /// How it went.
    pub trail: Trail,
}

/// What comes of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The access goes through.
    Translation(Translation),
    /// EPT violation, exit reason 48, unless it becomes a #VE.
    Violation(Violation),
    /// EPT misconfiguration, exit reason 49.
    Misconfiguration {
        /// The level of the entry.
        level: u8,
        /// All that is wrong with it; the order is not architectural.
        reasons: Misconfiguration,
    },
    /// SPP-related event, exit reason 66.
    SubPage(SubPageEvent),
    /// Page-modification log full, exit reason 62: no flag is set, the access is not made.
    LogFull,
    /// #NPF, exit code 0x400.
    NestedFault(NestedFault),
    /// The address has more bits than MAXPHYADDR, so the guest cannot make it: its own paging
    /// faults first (SDM 31.3.1).
    GpaNotRepresentable,
    /// The memory does not have an entry of the walk: nothing can be said.
    NotInDump {
        /// Where the entry should be.
        at: Hpa,
        /// Its level.
        level: u8,
    },
}

/// What let a write through that the rights alone do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Bit 58 of the leaf: a write by the guest's paging (SDM 31.3.3.2).
    PagingWrite,
    /// The sub-page permission vector (SDM 31.3.4).
    SubPage,
    /// Bit 60 of the leaf: a supervisor shadow-stack page (SDM 31.3.3.2).
    ShadowStack,
}

/// An access that goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Where to.
    pub hpa: Hpa,
    /// Level of the leaf: 1 (4 KiB), 2 (2 MiB) or 3 (1 GiB).
    pub level: u8,
    /// Rights, accumulated.
    pub rights: Rights,
    /// Memory type, of an EPT leaf only.
    pub memory: Option<LeafMemory>,
    /// Levels at which the walk sets an accessed flag that was clear: bit 0 is level 1.
    pub accessed: u8,
    /// Whether the walk sets the leaf's dirty flag, which was clear.
    pub dirty: bool,
    /// What let the access through, where the rights alone do not.
    pub via: Option<Via>,
}

impl Translation {
    /// Size of the page in bytes.
    pub const fn page_size(&self) -> u64 {
        1 << shift(self.level)
    }

    /// Whether the walk sets the accessed flag at this level, 1 to 5.
    pub const fn sets_accessed(&self, level: u8) -> bool {
        matches!(level, 1..=5) && self.accessed & 1 << (level - 1) != 0
    }
}

/// An EPT violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Level of the entry that decided; `None` if the address is too wide for 4 levels.
    pub level: Option<u8>,
    /// The exit qualification, with 0 where it is undefined.
    pub qualification: u64,
    /// Which of its bits are defined and known.
    pub mask: u64,
    /// Whether it becomes a virtualization exception.
    pub convertible: Convertible,
}

/// Whether an EPT violation is convertible to a virtualization exception (SDM 28.5.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convertible {
    /// It is. Delivery has conditions of its own.
    Yes,
    /// It is not: no such control, or the deciding entry suppresses it.
    No,
    /// No entry decided, and the SDM does not say.
    Unspecified,
}

/// An SPP-related event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubPageEvent {
    /// Whether the SPP table has no vector for the page; else the vector has reserved bits.
    pub miss: bool,
    /// The exit qualification, with 0 where it is undefined.
    pub qualification: u64,
    /// Which of its bits are defined.
    pub mask: u64,
}

/// A nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Level of the entry that decided; `None` if the address is too wide for 4 levels.
    pub level: Option<u8>,
    /// EXITINFO1, with 0 where it is unreliable. EXITINFO2 is the guest-physical address.
    pub exitinfo1: u64,
    /// Which of its bits can be relied on.
    pub mask: u64,
}
