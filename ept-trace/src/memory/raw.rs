//! Raw memory, without any header: what QEMU's `pmemsave` writes.

use super::error::Trouble;
use super::extents::Extents;

/// A file that is physical memory from address 0 up.
pub fn from_zero(size: u64) -> Result<Extents, Trouble> {
    let mut extents = Extents::default();
    extents.insert(0, size, 0)?;
    Ok(extents)
}

/// A file that a map describes: lines `START-END @ OFFSET`, in hexadecimal, END being the last
/// address as in /proc/iomem and OFFSET the place of START in the file; `#` begins a comment.
///
/// # Errors
///
/// Names the line that is not one.
pub fn mapped(map: &str) -> Result<Extents, String> {
    let mut extents = Extents::default();
    for (number, line) in (1..).zip(map.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (start, length, offset) = range(line).ok_or_else(|| {
            format!("line {number}: not START-END @ OFFSET, as in 0-bfffffff @ 0, in hexadecimal")
        })?;
        extents
            .insert(start, length, offset)
            .map_err(|trouble| format!("line {number}: {trouble}"))?;
    }
    if extents.is_empty() {
        return Err("no line START-END @ OFFSET is in it".to_owned());
    }
    Ok(extents)
}

fn range(line: &str) -> Option<(u64, u64, u64)> {
    let (range, offset) = line.split_once('@')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
    Some((start, end.checked_sub(start)?.checked_add(1)?, offset))
}

/// A hexadecimal number, with or without 0x.
pub fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_may_have_a_hole_and_comments() {
        let map = "# q35 with 4 GB\n0-7fffffff @ 0\n\n0x100000000 - 0x17fffffff @ 80000000 # high";
        let extents = mapped(map).unwrap();
        assert_eq!(extents.find(0x7fffffff).unwrap().offset, 0);
        assert!(extents.find(0x80000000).is_none());
        assert_eq!(extents.find(0x100000000).unwrap().offset, 0x80000000);
        assert_eq!(extents.end(), 0x180000000);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["0-fff", "fff-0 @ 0", "0-fff @ zero", "0-ffffffffffffffff @ 0", "0-+f @ 0"] {
            let err = mapped(&format!("0-fff @ 0\n{bad}")).unwrap_err();
            assert!(err.starts_with("line 2: "), "{bad}: {err}");
        }
        assert!(mapped("# nothing").is_err());
    }
}
