//! Arithmetic on addresses and entries, the same for EPT and NPT.

/// Address bits below a page or table of this level, 1 to 5.
pub(super) const fn shift(level: u8) -> u32 {
    12 + 9 * (level as u32 - 1)
}

/// Bits 51:12 of an entry or a pointer.
pub(super) const ADDRESS: u64 = 0xf_ffff_ffff_f000;

/// Which entry of a table of this level an address uses (SDM 31.3.2).
pub(super) const fn index(gpa: u64, level: u8) -> u16 {
    (gpa >> shift(level) & 0x1ff) as u16
}

/// The bits of an address within a page of this level.
pub(super) const fn offset(gpa: u64, level: u8) -> u64 {
    gpa & ((1 << shift(level)) - 1)
}

/// The address of the page of this level that a leaf points to.
pub(super) const fn page(entry: u64, level: u8) -> u64 {
    entry & ADDRESS & !((1 << shift(level)) - 1)
}

/// The bits, or none of them.
pub(super) const fn when(condition: bool, bits: u64) -> u64 {
    if condition { bits } else { 0 }
}
