//! The EPT pointer: SDM Vol. 3C §25.6.11, table 25-9.

/// Memory type write-back, bits 2:0.
pub const MEMORY_TYPE_WB: u64 = 6;
/// Bit 6: accessed and dirty flags are used.
pub const ACCESSED_DIRTY: u64 = 1 << 6;
/// Bits 11:0 hold the memory type, the walk length, flags, and what is reserved.
pub const ADDRESS: u64 = !0xfff;

/// The EPTP that KVM makes of a root of 4 or 5 levels, `construct_eptp`: always write-back.
#[inline(always)]
pub const fn of(root_hpa: u64, level: u8, accessed_dirty: bool) -> u64 {
    let length = (level.wrapping_sub(1) as u64 & 7) << 3;
    let flags = if accessed_dirty { ACCESSED_DIRTY } else { 0 };
    (root_hpa & ADDRESS) | MEMORY_TYPE_WB | length | flags
}

/// How many levels the hardware walks: bits 5:3 hold one less. From 1 to 8; of these hardware has 4
/// and 5.
#[inline(always)]
pub const fn walk_length(eptp: u64) -> u8 {
    let [low, ..] = eptp.to_le_bytes();
    (low >> 3 & 7) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_s_pointers() {
        // VMX_EPTP_MT_WB 6, VMX_EPTP_PWL_4 0x18, VMX_EPTP_PWL_5 0x20, VMX_EPTP_AD_ENABLE_BIT 0x40.
        assert_eq!(of(0x1234_5000, 4, true), 0x1234_505e);
        assert_eq!(of(0x1234_5000, 5, true), 0x1234_5066);
        assert_eq!(of(0x1234_5000, 4, false), 0x1234_501e);
        assert_eq!([0x1e, 0x26, 0].map(walk_length), [4, 5, 1]);
    }
}
