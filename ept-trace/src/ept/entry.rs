//! EPT entries: SDM tables 31-1 to 31-7, and misconfiguration, 31.3.3.1.

use std::fmt;

use bitflags::bitflags;

use super::bits::{ADDRESS, page, when};
use super::outcome::Rights;
use super::pointer::SHADOW_STACK;
use super::{Cpu, EptCapability, LeafMemory, MemoryType};
use crate::model::Hpa;
use ept_trace_common::eptp::ACCESSED_DIRTY;

/// Data reads are allowed.
pub(super) const READ: u64 = 1 << 0;
/// Data writes are allowed.
pub(super) const WRITE: u64 = 1 << 1;
/// Fetches are allowed; with mode-based execute control those from supervisor-mode addresses.
pub(super) const EXECUTE: u64 = 1 << 2;
/// Bits 5:3 of a leaf.
const MEMORY_TYPE: u64 = 7 << 3;
/// Ignore PAT.
const IPAT: u64 = 1 << 6;
/// A leaf of 2 MiB or 1 GiB.
pub(super) const LARGE: u64 = 1 << 7;
/// Accessed.
pub(super) const ACCESSED: u64 = 1 << 8;
/// Dirty.
pub(super) const DIRTY: u64 = 1 << 9;
/// Fetches from user-mode addresses are allowed, under mode-based execute control.
pub(super) const EXECUTE_USER: u64 = 1 << 10;
/// Verify guest paging.
pub(super) const VERIFY_GUEST_PAGING: u64 = 1 << 57;
/// Paging-write access.
pub(super) const PAGING_WRITE: u64 = 1 << 58;
/// Supervisor shadow-stack page.
pub(super) const SHADOW_STACK_PAGE: u64 = 1 << 60;
/// Sub-page write permissions.
pub(super) const SUB_PAGE: u64 = 1 << 61;
/// Suppress #VE.
pub(super) const SUPPRESS_VE: u64 = 1 << 63;

/// The bits of one place and their names, as they are printed.
const NAMES: [(u64, &str); 13] = [
    (READ, "R"),
    (WRITE, "W"),
    (EXECUTE, "X"),
    (EXECUTE_USER, "XU"),
    (IPAT, "IPAT"),
    (LARGE, "leaf"),
    (ACCESSED, "A"),
    (DIRTY, "D"),
    (VERIFY_GUEST_PAGING, "verify-guest-paging"),
    (PAGING_WRITE, "paging-write"),
    (SHADOW_STACK_PAGE, "supervisor-shadow-stack"),
    (SUB_PAGE, "sub-page"),
    (SUPPRESS_VE, "suppress-#VE"),
];

bitflags! {
    /// What makes a present entry misconfigured (SDM 31.3.3.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Misconfiguration: u8 {
        /// Bit 1 without bit 0.
        const WRITE_WITHOUT_READ = 1 << 0;
        /// Execution without bit 0, on a CPU that does not have that.
        const EXECUTE_WITHOUT_READ_UNSUPPORTED = 1 << 1;
        /// Bit 58 of a leaf without bit 0.
        const PAGING_WRITE_WITHOUT_READ = 1 << 2;
        /// A bit that is reserved at this level, be it an address bit beyond the width or the
        /// leaf bit of a page size that the CPU does not have.
        const RESERVED_BITS = 1 << 3;
        /// Memory type 2, 3 or 7 in a leaf.
        const BAD_MEMTYPE = 1 << 4;
    }
}

impl fmt::Display for Misconfiguration {
    /// The reasons, with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [(Misconfiguration, &str); 5] = [
            (Misconfiguration::WRITE_WITHOUT_READ, "writable and not readable"),
            (
                Misconfiguration::EXECUTE_WITHOUT_READ_UNSUPPORTED,
                "executable and not readable, which this CPU does not have",
            ),
            (Misconfiguration::PAGING_WRITE_WITHOUT_READ, "paging-write and not readable"),
            (Misconfiguration::RESERVED_BITS, "reserved bits are set"),
            (Misconfiguration::BAD_MEMTYPE, "no such memory type"),
        ];
        let mut separator = "";
        for (_, words) in WORDS.iter().filter(|(reason, _)| self.contains(*reason)) {
            write!(f, "{separator}{words}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// What the bits of an entry mean, on one CPU and under one EPTP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// What is reserved, by level (first is 1) and by bit 7.
    reserved: [[u64; 2]; 5],
    /// Any of these makes an entry present.
    present: u64,
    /// None of these without a read.
    needs_read: u64,
    /// Bits that mean something beyond access, memory type and address, if they mean it here.
    optional: u64,
}

impl Format {
    /// Of the entries that this EPTP leads to.
    pub(super) fn new(eptp: u64, cpu: &Cpu) -> Self {
        let has = |bit| cpu.capability.has(bit);
        let above = ADDRESS & u64::MAX << cpu.hpa_width();
        let table = above | MEMORY_TYPE | IPAT;
        let large = |level, offered| {
            if offered { above | (ADDRESS & !page(ADDRESS, level)) } else { table | LARGE }
        };
        let controls = &cpu.controls;
        let user = when(controls.mbe, EXECUTE_USER);
        Self {
            reserved: [
                [above; 2],
                [table, large(2, has(EptCapability::PAGE_2M))],
                [table, large(3, has(EptCapability::PAGE_1G))],
                [table | LARGE; 2],
                [table | LARGE; 2],
            ],
            present: READ | WRITE | EXECUTE | user,
            needs_read: WRITE | when(!has(EptCapability::EXECUTE_ONLY), EXECUTE | user),
            optional: user
                | when(eptp & ACCESSED_DIRTY != 0, ACCESSED | DIRTY)
                | when(controls.guest_paging_verification, VERIFY_GUEST_PAGING)
                | when(controls.paging_write, PAGING_WRITE)
                | when(eptp & SHADOW_STACK != 0, SHADOW_STACK_PAGE)
                | when(controls.spp, SUB_PAGE)
                | when(controls.ve, SUPPRESS_VE),
        }
    }

    /// Whether this optional bit means something and is set. Where it stands is the caller's.
    pub(super) const fn has(&self, entry: u64, bit: u64) -> bool {
        entry & self.optional & bit != 0
    }

    /// Whether the entry is present (SDM 31.3.2).
    pub(super) const fn is_present(&self, entry: u64) -> bool {
        entry & self.present != 0
    }

    /// Whether a present entry maps a page. Bit 7 where no such page is offered is a reserved bit.
    pub(super) const fn is_leaf(&self, entry: u64, level: u8) -> bool {
        level == 1 || entry & LARGE & !self.reserved(entry, level) != 0
    }

    /// The bits that are reserved in a present entry of this level, 1 to 5, with this bit 7.
    #[inline(always)]
    pub(super) const fn reserved(&self, entry: u64, level: u8) -> u64 {
        self.reserved[level as usize - 1][(entry & LARGE != 0) as usize]
    }

    /// What is wrong with a present entry (SDM 31.3.3.1).
    pub(super) fn misconfiguration(&self, entry: u64, level: u8) -> Misconfiguration {
        let leaf = self.is_leaf(entry, level);
        let without_read = |bits| entry & READ == 0 && entry & bits != 0;
        let mut wrong = Misconfiguration::empty();
        wrong.set(Misconfiguration::WRITE_WITHOUT_READ, without_read(WRITE));
        wrong.set(
            Misconfiguration::EXECUTE_WITHOUT_READ_UNSUPPORTED,
            without_read(self.needs_read & !WRITE),
        );
        wrong.set(
            Misconfiguration::PAGING_WRITE_WITHOUT_READ,
            leaf && without_read(self.optional & PAGING_WRITE),
        );
        wrong.set(Misconfiguration::RESERVED_BITS, entry & self.reserved(entry, level) != 0);
        // The SDM names PDEs and PTEs; KVM, Xen and VirtualBox have leaves of 1 GiB as well.
        wrong.set(Misconfiguration::BAD_MEMTYPE, leaf && leaf_memory(entry).is_none());
        wrong
    }

    /// What a present entry allows.
    #[inline(always)]
    pub(super) const fn rights(&self, entry: u64) -> Rights {
        rights(entry & self.present)
    }

    /// For each value of bits 5:0, whether a leaf with it is out of the ordinary: not present,
    /// write or execute without read, a memory type that does not exist. Without mode-based execute
    /// control.
    pub(super) fn extraordinary(&self) -> u64 {
        (0..64_u64)
            .filter(|low| {
                low & (READ | WRITE | EXECUTE) == 0
                    || low & READ == 0 && low & self.needs_read != 0
                    || leaf_memory(*low).is_none()
            })
            .fold(0, |bits, low| bits | 1 << low)
    }

    /// The bits of an entry by name.
    pub(super) fn describe(&self, entry: u64, level: u8) -> EntryBits {
        let level = level.clamp(1, 5);
        if !self.is_present(entry) {
            // Bits 62:3 are ignored.
            let used = self.optional & SUPPRESS_VE;
            return EntryBits::new(entry, used, 0, 0, None);
        }
        let leaf = self.is_leaf(entry, level);
        let both = self.present | self.optional & ACCESSED;
        let reserved = self.reserved(entry, level);
        let address = ADDRESS & !reserved;
        if !leaf {
            return EntryBits::new(entry, both, address, reserved, None);
        }
        let mut used = both | self.optional | MEMORY_TYPE | IPAT;
        if level > 1 {
            used = (used | LARGE) & !SUB_PAGE;
        }
        EntryBits::new(entry, used, address, reserved, leaf_memory(entry))
    }
}

/// Bits 2:0 and bit 10 as rights.
#[inline(always)]
pub(super) const fn rights(entry: u64) -> Rights {
    let [low, ..] = (entry & 7 | entry >> 7 & 8).to_le_bytes();
    Rights::from_bits_truncate(low)
}

/// The memory type of a leaf; `None` if there is no such type.
#[inline(always)]
pub(super) const fn leaf_memory(entry: u64) -> Option<LeafMemory> {
    match MemoryType::of(entry >> 3 & 7) {
        Some(memory_type) => Some(LeafMemory { memory_type, ipat: entry & IPAT != 0 }),
        None => None,
    }
}

/// An entry, taken apart for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryBits {
    /// The address of the table or page; `None` if the entry is not present.
    pub address: Option<Hpa>,
    /// The bits that are set and mean something here, the memory type among them.
    pub names: Vec<&'static str>,
    /// The bits that are set and reserved.
    pub reserved: u64,
    /// The bits that are set and ignored: software's.
    pub ignored: u64,
}

impl EntryBits {
    fn new(entry: u64, used: u64, address: u64, reserved: u64, memory: Option<LeafMemory>) -> Self {
        let set = entry & used & !reserved;
        let mut names = named(set, &NAMES);
        names.extend(memory.map(|memory| memory.memory_type.name()));
        Self {
            address: (address != 0).then_some(Hpa(entry & address)),
            names,
            reserved: entry & reserved,
            ignored: entry & !(used | address | reserved),
        }
    }

    /// The bits of an entry with other names and rules, which are NPT's.
    pub(super) fn of(
        entry: u64,
        names: &[(u64, &'static str)],
        address: u64,
        reserved: u64,
    ) -> Self {
        let used = names.iter().fold(0, |bits, (bit, _)| bits | bit);
        Self {
            address: (address != 0).then_some(Hpa(entry & address)),
            names: named(entry & used & !reserved, names),
            reserved: entry & reserved,
            ignored: entry & !(used | address | reserved),
        }
    }
}

fn named(set: u64, names: &[(u64, &'static str)]) -> Vec<&'static str> {
    names.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| *name).collect()
}

impl fmt::Display for EntryBits {
    /// Such as `0x2000 R W X WB, ignored 0x800`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}")?,
            None => f.write_str("not present")?,
        }
        for name in &self.names {
            write!(f, " {name}")?;
        }
        if self.reserved != 0 {
            write!(f, ", reserved {:#x}", self.reserved)?;
        }
        if self.ignored != 0 {
            write!(f, ", ignored {:#x}", self.ignored)?;
        }
        Ok(())
    }
}
