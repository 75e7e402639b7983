//! 64-bit mode for a new vCPU: page tables and registers, set from outside.
//!
//! Intel SDM Vol. 3A §4.5 (4-level and 5-level paging), §3.4.5 (segment descriptors).

use anyhow::{Context as _, Result};
use kvm_bindings::{kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

use super::Cpuid;
use super::memory::Memory;
use super::vm::set_sregs;

/// CR0: PE, MP, ET, NE, WP, PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// CR4.PAE, which 64-bit mode requires, and CR4.LA57, for paging of five levels.
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
/// EFER: LME and LMA.
const EFER: u64 = 1 << 8 | 1 << 10;

/// A page-table entry: present and writable.
const TABLE: u64 = 0b11;
/// A page-directory entry that maps a large page: PS as well.
const LARGE: u64 = TABLE | 1 << 7;
/// 2 MiB, the size of a large page.
pub(super) const LARGE_PAGE: u64 = 2 << 20;

/// Page tables with one table at each level, so that they map the first GiB, with large pages.
pub(super) struct Tables {
    at: u64,
    levels: u64,
}

impl Tables {
    /// Builds them for paging of 4 or 5 levels, from this offset of the memory at GPA 0: a page for
    /// each level but the lowest.
    pub(super) fn new(memory: &mut Memory, at: u64, levels: u64) -> Self {
        let tables = Self { at, levels };
        for table in (at..tables.directory()).step_by(0x1000) {
            memory.write(table, &((table + 0x1000) | TABLE).to_le_bytes());
        }
        tables
    }

    /// The page directory, the last of the tables.
    fn directory(&self) -> u64 {
        self.at + (self.levels - 2) * 0x1000
    }

    /// Maps a large page: the virtual address to the GPA, each of them a multiple of 2 MiB.
    pub(super) fn map(&self, memory: &mut Memory, address: u64, gpa: u64) {
        let index = address / LARGE_PAGE % 512;
        memory.write(self.directory() + index * 8, &(gpa | LARGE).to_le_bytes());
    }

    /// Puts a vCPU into 64-bit mode on these tables, with these registers.
    pub(super) fn enter(&self, vcpu: &VcpuFd, cpuids: &[Cpuid], regs: &kvm_regs) -> Result<()> {
        let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
        sregs.cr0 = CR0;
        sregs.cr3 = self.at;
        sregs.cr4 = CR4_PAE | if self.levels == 5 { CR4_LA57 } else { 0 };
        sregs.efer = EFER;
        // Code: execute and read, accessed; data: read and write, accessed.
        sregs.cs = kvm_segment { type_: 0xb, l: 1, ..segment(0x8) };
        for data in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
            *data = kvm_segment { type_: 0x3, db: 1, ..segment(0x10) };
        }
        set_sregs(vcpu, cpuids, &sregs)?;
        vcpu.set_regs(&kvm_regs { rflags: 2, ..*regs }).context("KVM_SET_REGS")
    }
}

/// A flat segment of ring 0.
fn segment(selector: u16) -> kvm_segment {
    kvm_segment { selector, limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() }
}
