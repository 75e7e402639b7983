//! The root-level decision, as KVM takes it.
//!
//! Pure arithmetic on the kernel's own inputs, without allocation, so that the very same code
//! runs in the kernel (to keep what is not plainly right in the small ring) and in userspace.

/// The guest MAXPHYADDR that KVM assumes when the guest's CPUID does not say: 36 bits.
///
/// Kernel: `cpuid_query_maxphyaddr`, unchanged from 4.14 to 7.3.
pub const DEFAULT_MAXPHYADDR: u8 = 36;

/// `KVM_X86_TDX_VM`, the type of a TDX guest; from 6.16 its level comes from GPAW instead.
pub const X86_TDX_VM: u32 = 5;

/// Root level of the TDP MMU, `kvm_mmu_get_tdp_level` since 5.9.
///
/// `forced` is `tdp_root_level` (0 where the kernel has none, that is before 5.15), `max` is
/// `max_tdp_level`, both as `kvm_configure_mmu` stored them; `maxphyaddr` is in bits. Older
/// kernels take the same decision in `get_ept_level`, with `max` read off the EPT capability.
/// A 5-level table is used for a MAXPHYADDR strictly above 48.
///
/// Kernel: 855feb673640 (4.14), e93fd3b3e89e and after; SDM Vol. 3C §29.3.2 for the reach of the
/// two depths.
#[inline(always)]
pub const fn tdp_root_level(forced: u8, max: u8, maxphyaddr: u8) -> u8 {
    if forced != 0 {
        forced
    } else if max == 5 && maxphyaddr <= 48 {
        4
    } else {
        max
    }
}

/// Guest MAXPHYADDR in bits, `cpuid_query_maxphyaddr`.
///
/// `max_leaf` is EAX of leaf 0x80000000, `address_sizes` EAX of leaf 0x80000008, each `None` if
/// the vCPU has no such entry. KVM neither clamps nor checks what the leaf says.
#[inline(always)]
pub const fn query_maxphyaddr(max_leaf: Option<u32>, address_sizes: Option<u32>) -> u8 {
    match (max_leaf, address_sizes) {
        (Some(max_leaf), Some(eax)) if max_leaf >= 0x80000008 => (eax & 0xff) as u8,
        _ => DEFAULT_MAXPHYADDR,
    }
}

/// Guest physical address width that a TDX guest is given, `cpuid_query_maxguestphyaddr`: bits
/// 23:16 of what MAXPHYADDR comes from, and 0 where that leaf is missing.
#[inline(always)]
pub const fn query_maxguestphyaddr(max_leaf: Option<u32>, address_sizes: Option<u32>) -> u8 {
    match (max_leaf, address_sizes) {
        (Some(max_leaf), Some(eax)) if max_leaf >= 0x80000008 => (eax >> 16 & 0xff) as u8,
        _ => 0,
    }
}

/// Highest root level that an EPT capability (`IA32_VMX_EPT_VPID_CAP`, MSR 0x48c) allows.
///
/// Kernel: `vmx_get_max_ept_level` (`vmx_get_max_tdp_level` up to 6.4): bit 7 is the 5-level page
/// walk, SDM Vol. 3D §A.10.
#[inline(always)]
pub const fn max_ept_level(capability: u64) -> u8 {
    if capability & (1 << 7) != 0 { 5 } else { 4 }
}

/// Root level of shadow paging, `kvm_init_softmmu` on the vCPU's own control registers.
///
/// Without EFER.LMA the shadow is a PAE table of 3 levels, whatever the guest's own paging is.
#[inline(always)]
pub const fn shadow_root_level(cr4: u64, efer: u64) -> u8 {
    const EFER_LMA: u64 = 1 << 10;
    const CR4_LA57: u64 = 1 << 12;
    if efer & EFER_LMA == 0 {
        3
    } else if cr4 & CR4_LA57 != 0 {
        5
    } else {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_levels_only_strictly_above_48() {
        assert_eq!([36, 48, 49, 52].map(|mpa| tdp_root_level(0, 5, mpa)), [4, 4, 5, 5]);
        assert_eq!([36, 48, 49, 52].map(|mpa| tdp_root_level(0, 4, mpa)), [4; 4]);
    }

    #[test]
    fn a_forced_level_ignores_maxphyaddr() {
        assert_eq!([32, 52].map(|mpa| tdp_root_level(5, 5, mpa)), [5; 2]);
        assert_eq!([32, 52].map(|mpa| tdp_root_level(4, 5, mpa)), [4; 2]);
    }

    #[test]
    fn maxphyaddr_needs_both_leaves() {
        assert_eq!(query_maxphyaddr(Some(0x80000008), Some(0x3034)), 0x34);
        assert_eq!(query_maxphyaddr(Some(0x80000007), Some(52)), 36);
        assert_eq!(query_maxphyaddr(None, Some(52)), 36);
        assert_eq!(query_maxphyaddr(Some(0x80000008), None), 36);
        assert_eq!(query_maxphyaddr(Some(0x80000008), Some(0)), 0, "KVM does not clamp");
    }

    #[test]
    fn shadow_levels_follow_the_guests_mode() {
        assert_eq!(shadow_root_level(0, 0), 3);
        assert_eq!(shadow_root_level(1 << 12, 0), 3, "LA57 counts in long mode alone");
        assert_eq!(shadow_root_level(0, 1 << 10), 4);
        assert_eq!(shadow_root_level(1 << 12, 1 << 10), 5);
    }
}
