//! Memory types: SDM 31.3.7.

use std::fmt;

/// A memory type that an EPT leaf can give, bits 5:3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Uncacheable.
    Uc = 0,
    /// Write-combining.
    Wc = 1,
    /// Write-through.
    Wt = 4,
    /// Write-protected.
    Wp = 5,
    /// Write-back.
    Wb = 6,
}

impl MemoryType {
    /// The type with this encoding; `None` for 2, 3, 7 and what is not of 3 bits.
    pub const fn of(encoding: u64) -> Option<Self> {
        match encoding {
            0 => Some(Self::Uc),
            1 => Some(Self::Wc),
            4 => Some(Self::Wt),
            5 => Some(Self::Wp),
            6 => Some(Self::Wb),
            _ => None,
        }
    }

    /// Such as `WB`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uc => "UC",
            Self::Wc => "WC",
            Self::Wt => "WT",
            Self::Wp => "WP",
            Self::Wb => "WB",
        }
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A memory type that the guest's PAT can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pat {
    /// Uncacheable.
    Uc,
    /// Uncacheable, unless something else says write-combining.
    UcMinus,
    /// Write-combining.
    Wc,
    /// Write-through.
    Wt,
    /// Write-protected.
    Wp,
    /// Write-back.
    Wb,
}

/// The guest's say in the memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// What the PAT gives for the page.
    pub pat: Pat,
    /// CR0.CD: caches are disabled.
    pub cr0_cd: bool,
    /// CR0.PG: without paging the PAT counts as write-back.
    pub cr0_pg: bool,
}

/// The memory type of an EPT leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafMemory {
    /// Bits 5:3.
    pub memory_type: MemoryType,
    /// Bit 6: the guest's PAT is ignored.
    pub ipat: bool,
}

impl LeafMemory {
    /// The memory type that an access through the leaf has.
    pub const fn effective(self, guest: Guest) -> MemoryType {
        use MemoryType::{Uc, Wb, Wc, Wp, Wt};
        if guest.cr0_cd {
            return Uc;
        }
        if self.ipat {
            return self.memory_type;
        }
        let pat = if guest.cr0_pg { guest.pat } else { Pat::Wb };
        // Columns in the order of `Pat`: UC, UC-, WC, WT, WP, WB.
        let row = match self.memory_type {
            Uc => [Uc, Uc, Wc, Uc, Uc, Uc],
            Wc => [Uc, Wc, Wc, Uc, Uc, Wc],
            Wt => [Uc, Uc, Wc, Wt, Wp, Wt],
            Wp => [Uc, Wc, Wc, Wt, Wp, Wp],
            Wb => [Uc, Uc, Wc, Wt, Wp, Wb],
        };
        row[pat as usize]
    }
}
