//! AMD's nested page tables: the format of ordinary long-mode tables.
//!
//! No section of AMD's manual is cited: the rules are those that kvm-unit-tests (`x86/svm_npt.c`),
//! Linux's `nested_tdp_fault_test.c` and QEMU's walker agree on. Each names what it rests on.

use super::bits::{ADDRESS, index, offset, page, when};
use super::cpu::WIDEST;
use super::{Access, EntryBits, Kind, NestedFault, Outcome, PhysRead, Rights, ShadowStack};
use super::{Step, Trail, Translation, Walk};
use crate::model::{Gpa, Hpa};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// A leaf of 2 MiB or 1 GiB; in a PTE a bit of the PAT index.
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// In a leaf of 2 MiB or 1 GiB a bit of the PAT index.
const PAT_LARGE: u64 = 1 << 12;
const NX: u64 = 1 << 63;

const TABLE_NAMES: [(u64, &str); 7] = [
    (PRESENT, "P"),
    (WRITE, "RW"),
    (USER, "US"),
    (1 << 3, "PWT"),
    (1 << 4, "PCD"),
    (ACCESSED, "A"),
    (NX, "NX"),
];
const LARGE_NAMES: [(u64, &str); 11] = [
    (PRESENT, "P"),
    (WRITE, "RW"),
    (USER, "US"),
    (1 << 3, "PWT"),
    (1 << 4, "PCD"),
    (ACCESSED, "A"),
    (DIRTY, "D"),
    (LARGE, "leaf"),
    (GLOBAL, "G"),
    (PAT_LARGE, "PAT"),
    (NX, "NX"),
];
const PTE_NAMES: [(u64, &str); 10] = [
    (PRESENT, "P"),
    (WRITE, "RW"),
    (USER, "US"),
    (1 << 3, "PWT"),
    (1 << 4, "PCD"),
    (ACCESSED, "A"),
    (DIRTY, "D"),
    (LARGE, "PAT"),
    (GLOBAL, "G"),
    (NX, "NX"),
];

/// Bits of EXITINFO1.
const FAULT_PRESENT: u64 = 1 << 0;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_USER: u64 = 1 << 2;
const FAULT_RESERVED: u64 = 1 << 3;
const FAULT_FETCH: u64 = 1 << 4;
const FAULT_SHADOW_STACK: u64 = 1 << 6;
const FAULT_FINAL: u64 = 1 << 32;
const FAULT_GUEST_TABLE: u64 = 1 << 33;
const FAULT_SUPERVISOR_SHADOW_STACK: u64 = 1 << 37;

/// An AMD CPU that runs a guest with nested paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one bit of a register")]
pub struct NptCpu {
    /// `CPUID.80000008H:EAX[7:0]`, up to 52; more counts as 52.
    pub maxphyaddr: u8,
    /// The host's EFER.NXE.
    pub nxe: bool,
    /// The host's CR4.LA57: walks of 5 levels.
    pub la57: bool,
    /// The host's CR4.SMEP.
    pub smep: bool,
    /// Page1GB of CPUID.
    pub gbpages: bool,
    /// Guest mode execute trap is on.
    pub gmet: bool,
}

/// What an nCR3 means on a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Npt {
    cpu: NptCpu,
    root: u64,
    levels: u8,
}

impl Npt {
    /// Of an nCR3, of which bits 51:12 count.
    pub fn new(ncr3: u64, cpu: &NptCpu) -> Self {
        Self { cpu: *cpu, root: ncr3 & ADDRESS, levels: if cpu.la57 { 5 } else { 4 } }
    }

    /// Translates an address, and says how.
    pub fn walk(&self, memory: &impl PhysRead, gpa: Gpa, access: &Access) -> Walk {
        let mut trail = Trail::default();
        let outcome = self.descend(memory, gpa.0, access, &mut trail);
        Walk { outcome, trail }
    }

    fn descend(
        &self,
        memory: &impl PhysRead,
        gpa: u64,
        access: &Access,
        trail: &mut Trail,
    ) -> Outcome {
        if gpa >> self.width() != 0 {
            return Outcome::GpaNotRepresentable;
        }
        // Unverified: thought to be a fault, as with EPT (LKML, February 2026); emulators truncate.
        if self.levels == 4 && gpa >> 48 != 0 {
            return self.fault(access, None, 0);
        }
        let mut rights = Rights::all();
        let mut table = self.root;
        let mut level = self.levels;
        loop {
            let index = index(gpa, level);
            let at = Hpa(table | u64::from(index) << 3);
            let Some(entry) = memory.read_u64(at) else { return Outcome::NotInDump { at, level } };
            let step = Step { level, table: Hpa(table), index, entry };
            trail.push(step);
            // svm_npt.c npt_np_check
            if entry & PRESENT == 0 {
                return self.fault(access, Some(level), 0);
            }
            // svm_npt.c svm_npt_rsvd_bits_test; QEMU leaves P out.
            if entry & self.reserved(entry, level) != 0 {
                return self.fault(access, Some(level), FAULT_PRESENT | FAULT_RESERVED);
            }
            rights &= allowed(entry);
            if is_leaf(entry, level) {
                return self.land(gpa, access, &step, rights, trail);
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    fn land(
        &self,
        gpa: u64,
        access: &Access,
        leaf: &Step,
        rights: Rights,
        trail: &Trail,
    ) -> Outcome {
        let &Step { level, entry, .. } = leaf;
        if !self.permits(access, rights) {
            return self.fault(access, Some(level), FAULT_PRESENT);
        }
        let accessed = trail
            .iter()
            .filter(|step| step.entry & ACCESSED == 0)
            .fold(0, |levels, step| levels | 1 << (step.level - 1));
        Outcome::Translation(Translation {
            hpa: Hpa(page(entry, level) | offset(gpa, level)),
            level,
            rights,
            memory: None,
            accessed,
            dirty: is_write(access) && entry & DIRTY == 0,
            via: None,
        })
    }

    /// What the rights of all levels together permit. CR0.WP does not count: every access is the
    /// user's (svm_npt.c npt_us_check, npt_rw_check, npt_rw_pfwalk_check, npt_nx_check).
    fn permits(&self, access: &Access, rights: Rights) -> bool {
        let user = rights.contains(Rights::USER);
        let mode = if self.cpu.gmet {
            // U/S governs the supervisor's execution and nothing else (svm_npt.c, GMET).
            !(user && is_fetch(access) && !access.is_user())
        } else {
            user
        };
        mode && (!is_write(access) || rights.contains(Rights::WRITE))
            && (!is_fetch(access) || rights.contains(Rights::EXECUTE))
    }

    fn fault(&self, access: &Access, level: Option<u8>, cause: u64) -> Outcome {
        let shadow_stack = access.stage.is_final() && access.shadow_stack.is_some();
        let bits = cause
            | FAULT_USER
            | when(is_write(access), FAULT_WRITE)
            | when(is_fetch(access) && (self.cpu.nxe || self.cpu.smep), FAULT_FETCH)
            | when(shadow_stack, FAULT_SHADOW_STACK)
            | if access.stage.is_final() { FAULT_FINAL } else { FAULT_GUEST_TABLE };
        // Under GMET bit 2 is unreliable (erratum 1218). When bit 37 is set is not known well
        // enough for an access to a supervisor shadow stack.
        let supervisor = access.shadow_stack == Some(ShadowStack::Supervisor);
        let mask =
            !(when(self.cpu.gmet, FAULT_USER) | when(supervisor, FAULT_SUPERVISOR_SHADOW_STACK));
        Outcome::NestedFault(NestedFault { level, exitinfo1: bits & mask, mask })
    }

    fn width(&self) -> u8 {
        self.cpu.maxphyaddr.min(WIDEST)
    }

    /// The bits that are reserved in a present entry of a level from 1 to 5 (svm_npt.c
    /// svm_npt_rsvd_bits_test; KVM's __reset_rsvds_bits_mask).
    fn reserved(&self, entry: u64, level: u8) -> u64 {
        let above = ADDRESS & u64::MAX << self.width();
        let nx = if self.cpu.nxe { 0 } else { NX };
        let shape = match level {
            4.. => LARGE | GLOBAL,
            3 if !self.cpu.gbpages => LARGE,
            // Bit 12 is PAT.
            2 | 3 if entry & LARGE != 0 => ADDRESS & !page(ADDRESS, level) & !PAT_LARGE,
            _ => 0,
        };
        above | nx | shape
    }

    /// The bits of an entry at a level from 1 to 5, by name.
    pub fn describe(&self, entry: u64, level: u8) -> EntryBits {
        let level = level.clamp(1, 5);
        if entry & PRESENT == 0 {
            return EntryBits::of(entry, &[], 0, 0);
        }
        let reserved = self.reserved(entry, level);
        let address = ADDRESS & !reserved;
        match level {
            1 => EntryBits::of(entry, &PTE_NAMES, address, reserved),
            2 | 3 if entry & LARGE & !reserved != 0 => {
                EntryBits::of(entry, &LARGE_NAMES, address & !PAT_LARGE, reserved)
            }
            _ => EntryBits::of(entry, &TABLE_NAMES, address, reserved),
        }
    }
}

fn allowed(entry: u64) -> Rights {
    let mut rights = Rights::READ;
    rights.set(Rights::WRITE, entry & WRITE != 0);
    rights.set(Rights::EXECUTE, entry & NX == 0);
    rights.set(Rights::USER, entry & USER != 0);
    rights
}

/// Reserved bits apart.
fn is_leaf(entry: u64, level: u8) -> bool {
    level == 1 || level <= 3 && entry & LARGE != 0
}

/// Guest tables are always written (svm_npt.c npt_rw_pfwalk_check; nested_tdp_fault_test.c).
fn is_write(access: &Access) -> bool {
    !access.stage.is_final() || access.is_data_write()
}

fn is_fetch(access: &Access) -> bool {
    access.stage.is_final() && access.kind == Kind::Fetch
}
