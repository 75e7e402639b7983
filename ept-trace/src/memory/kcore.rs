//! `/proc/kcore` by physical address: its segments of the direct map have a real `p_paddr`.

use std::fs::File;

use super::bytes::Opened;
use super::error::Trouble;
use super::extents::Extents;
use super::format::Found;
use super::{Layout, elf};

pub const PATH: &str = "/proc/kcore";

/// Opens it for reading by physical address.
pub fn open() -> Result<Found, Trouble> {
    let file = File::open(PATH).map_err(|source| Trouble::Io { at: 0, source })?;
    let bytes = Box::new(Opened::unsized_file(file));
    let extents: Extents = elf::extents(&*bytes)?;
    Ok(Found { name: "kcore", bytes, layout: Layout::Extents(extents), notes: Vec::new() })
}

/// The segments of an ELF core that is open, for those who read it by virtual address.
///
/// # Errors
///
/// If it cannot be read, or is not a core.
pub fn core_loads(file: &File) -> Result<Vec<elf::Load>, Trouble> {
    let file = file.try_clone().map_err(|source| Trouble::Io { at: 0, source })?;
    elf::loads(&Opened::unsized_file(file))
}
