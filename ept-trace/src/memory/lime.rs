//! LiME: ranges of memory, each behind a header that says which.

use super::bytes::{Bytes, u32_at, u64_at};
use super::error::Trouble;
use super::extents::Extents;

pub const MAGIC: &[u8] = b"EMiL";

/// Magic, version, first and last address, 8 reserved bytes.
const HEADER: usize = 32;

/// Where physical memory is, and the trouble with what comes after it, if any.
pub fn extents(bytes: &dyn Bytes) -> Result<Extents, Trouble> {
    let mut extents = Extents::default();
    let mut at = 0;
    while at < bytes.size() {
        let mut header = [0; HEADER];
        bytes.read(&mut header, at)?;
        let version = u32_at(&header, 4);
        if !header.starts_with(MAGIC) || version != 1 {
            let what = "no LiME header of version 1 here: the file is damaged, or cut together \
                        with something else";
            return Err(Trouble::bad(at, what));
        }
        let (first, last) = (u64_at(&header, 8), u64_at(&header, 16));
        let length = last.checked_sub(first).and_then(|length| length.checked_add(1));
        let Some(length) = length else {
            let what = format!("a range from {first:#x} to {last:#x}: the file is damaged");
            return Err(Trouble::bad(at, what));
        };
        let data = at + HEADER as u64;
        extents.insert(first, length, data)?;
        // A range that is cut off is the last.
        at = data.saturating_add(length);
    }
    Ok(extents)
}
