//! ELF cores: QEMU's `dump-guest-memory`, `virsh dump --memory-only`, `/proc/vmcore` and what
//! kdump saves of it, `/proc/kcore`. Their `PT_LOAD` segments say by `p_paddr` where memory is.

use super::bytes::{Bytes, head, u16_at, u32_at, u64_at};
use super::error::Trouble;
use super::extents::Extents;

pub const MAGIC: &[u8] = b"\x7fELF";

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
/// Said in `e_phnum` where there are more program headers than it can say.
const PN_XNUM: u16 = 0xffff;
/// A dump of the guest's own virtual memory has some hundreds; more would need much memory.
const MOST_HEADERS: u32 = 1 << 20;

/// A segment of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// `p_vaddr`.
    pub virtual_address: u64,
    /// `p_paddr`; `u64::MAX` for what /proc/kcore has of the kernel's vmalloc area.
    pub physical_address: u64,
    /// `p_offset`.
    pub offset: u64,
    /// `p_filesz`: what follows it in memory is not in the file.
    pub file_size: u64,
}

/// The `PT_LOAD` segments of a core.
pub fn loads(bytes: &dyn Bytes) -> Result<Vec<Load>, Trouble> {
    let header = head::<FILE_HEADER>(bytes)?;
    check(&header)?;
    let table = u64_at(&header, 32);
    if usize::from(u16_at(&header, 54)) != PROGRAM_HEADER {
        return Err(Trouble::bad(54, "e_phentsize is not 56: the file is damaged"));
    }
    let count = match u16_at(&header, 56) {
        // The first section header's sh_info has the number then.
        PN_XNUM => {
            let mut section = [0; SECTION_HEADER];
            bytes.read(&mut section, u64_at(&header, 40))?;
            u32_at(&section, 44)
        }
        count => u32::from(count),
    };
    if count > MOST_HEADERS {
        let what = format!("{count} program headers: more than {MOST_HEADERS} are not read");
        return Err(Trouble::bad(56, what));
    }
    let mut loads = Vec::new();
    for number in 0..u64::from(count) {
        let mut header = [0; PROGRAM_HEADER];
        bytes.read(&mut header, table.saturating_add(number * PROGRAM_HEADER as u64))?;
        if u32_at(&header, 0) == PT_LOAD {
            loads.push(Load {
                offset: u64_at(&header, 8),
                virtual_address: u64_at(&header, 16),
                physical_address: u64_at(&header, 24),
                file_size: u64_at(&header, 32),
            });
        }
    }
    Ok(loads)
}

fn check(header: &[u8; FILE_HEADER]) -> Result<(), Trouble> {
    if !header.starts_with(MAGIC) {
        return Err(Trouble::bad(0, "not an ELF file"));
    }
    if (header[4], header[5]) != (2, 1) {
        return Err(Trouble::Refused(
            "not a 64-bit little-endian ELF file. Of a machine that is not in long mode, dump \
             the memory with QEMU's `pmemsave`"
                .to_owned(),
        ));
    }
    if u16_at(header, 16) != ET_CORE {
        return Err(Trouble::Refused(
            "an ELF file, but not a core: make one with QEMU's `dump-guest-memory`, or \
             `virsh dump --memory-only`"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Where physical memory is in a core.
pub fn extents(bytes: &dyn Bytes) -> Result<Extents, Trouble> {
    let loads = loads(bytes)?;
    if loads.is_empty() {
        return Err(Trouble::bad(0, "no PT_LOAD segment: no memory is in it"));
    }
    // A process has no physical addresses, and its core says 0 for each.
    if loads.len() > 1 && loads.iter().all(|load| load.physical_address == 0) {
        return Err(Trouble::Refused(
            "the core of a process: its segments have no physical addresses. Dump the guest with \
             QEMU's `dump-guest-memory`, or `virsh dump --memory-only`"
                .to_owned(),
        ));
    }
    let mut extents = Extents::default();
    // With `paging=true` segments overlap, and any that has an address will do.
    for load in loads.iter().filter(|load| load.physical_address != u64::MAX) {
        extents.insert(load.physical_address, load.file_size, load.offset)?;
    }
    Ok(extents)
}
