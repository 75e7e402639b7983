//! What a guest's CPUID says of its physical addresses.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use ept_trace_common::decision::DEFAULT_MAXPHYADDR;
use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// The leaf whose EAX is the highest extended leaf.
const HIGHEST: u32 = 0x80000000;
/// The leaf whose EAX holds MAXPHYADDR in bits 7:0, and GuestPhysBits in bits 23:16.
const ADDRESS_SIZES: u32 = 0x80000008;

/// The highest extended leaf, EAX of leaf 0x80000000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Highest {
    /// As KVM supports it.
    Supported,
    /// 0x80000007: without the leaf of the address sizes, even if its entry is there.
    TooLow,
    /// The leaf itself is not there.
    Absent,
}

/// What a guest's CPUID says of its physical addresses; all else is as KVM supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// MAXPHYADDR in bits; without, there is no leaf 0x80000008.
    pub maxphyaddr: Option<u8>,
    /// GuestPhysBits, EAX\[23:16\] of leaf 0x80000008; without, as KVM supports it.
    pub guest_phys_bits: Option<u8>,
    /// The highest extended leaf.
    pub highest: Highest,
}

impl Cpuid {
    /// This MAXPHYADDR, in bits.
    pub fn of(maxphyaddr: u8) -> Self {
        Self { maxphyaddr: Some(maxphyaddr), guest_phys_bits: None, highest: Highest::Supported }
    }

    /// No leaf 0x80000008.
    pub fn without_address_sizes() -> Self {
        Self { maxphyaddr: None, ..Self::of(0) }
    }

    /// MAXPHYADDR that KVM should use for the guest, in bits.
    pub fn effective_maxphyaddr(&self) -> u8 {
        match (self.highest, self.maxphyaddr) {
            (Highest::Supported, Some(bits)) => bits,
            _ => DEFAULT_MAXPHYADDR,
        }
    }

    /// The CPUID that KVM supports, with this in it.
    ///
    /// # Errors
    ///
    /// If KVM has no leaf to put it in.
    pub fn within(&self, supported: &CpuId) -> Result<CpuId> {
        let is_kept = |entry: &&kvm_cpuid_entry2| match entry.function {
            HIGHEST => self.highest != Highest::Absent,
            ADDRESS_SIZES => self.maxphyaddr.is_some(),
            _ => true,
        };
        let mut entries: Vec<_> = supported.as_slice().iter().filter(is_kept).copied().collect();
        if self.highest == Highest::TooLow {
            entry(&mut entries, HIGHEST)?.eax = ADDRESS_SIZES - 1;
        }
        if let Some(bits) = self.maxphyaddr {
            let sizes = entry(&mut entries, ADDRESS_SIZES)?;
            sizes.eax = sizes.eax & !0xff | u32::from(bits);
            if let Some(bits) = self.guest_phys_bits {
                sizes.eax = sizes.eax & !0xff_0000 | u32::from(bits) << 16;
            }
        }
        CpuId::from_entries(&entries).context("too many CPUID entries")
    }
}

fn entry(entries: &mut [kvm_cpuid_entry2], leaf: u32) -> Result<&mut kvm_cpuid_entry2> {
    match entries.iter_mut().find(|entry| entry.function == leaf) {
        Some(entry) => Ok(entry),
        None => bail!("this KVM has no CPUID leaf {leaf:#x}"),
    }
}

impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.maxphyaddr {
            Some(bits) => write!(f, "MAXPHYADDR {bits}")?,
            None => f.write_str("no CPUID leaf 0x80000008")?,
        }
        if let Some(bits) = self.guest_phys_bits.filter(|_| self.maxphyaddr.is_some()) {
            write!(f, " and GuestPhysBits {bits}")?;
        }
        match self.highest {
            Highest::Supported => Ok(()),
            Highest::TooLow => f.write_str(" beyond the highest CPUID leaf"),
            Highest::Absent => f.write_str(" without CPUID leaf 0x80000000"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported() -> CpuId {
        let entry = |function, eax| kvm_cpuid_entry2 { function, eax, ..Default::default() };
        let entries = [entry(0, 0x16), entry(HIGHEST, 0x8000001f), entry(ADDRESS_SIZES, 0x302e30)];
        CpuId::from_entries(&entries).expect("few entries")
    }

    fn leaves(cpuid: Cpuid) -> Vec<(u32, u32)> {
        let cpuid = cpuid.within(&supported()).expect("all leaves are there");
        cpuid.as_slice().iter().map(|entry| (entry.function, entry.eax)).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_changed() {
        let same = [(0, 0x16), (HIGHEST, 0x8000001f)];
        let sizes = |cpuid| {
            let leaves = leaves(cpuid);
            assert_eq!(leaves[..2], same);
            leaves.get(2).copied()
        };
        assert_eq!(sizes(Cpuid::of(36)), Some((ADDRESS_SIZES, 0x302e24)));
        let both = Cpuid { guest_phys_bits: Some(0), ..Cpuid::of(52) };
        assert_eq!(sizes(both), Some((ADDRESS_SIZES, 0x002e34)));
        assert_eq!(sizes(Cpuid::without_address_sizes()), None);
    }

    #[test]
    fn without_a_highest_leaf_that_reaches_it_maxphyaddr_is_the_default() {
        let too_low = Cpuid { highest: Highest::TooLow, ..Cpuid::of(52) };
        assert_eq!(leaves(too_low)[1], (HIGHEST, 0x80000007));
        let absent = Cpuid { highest: Highest::Absent, ..Cpuid::of(52) };
        assert_eq!(leaves(absent).len(), 2);
        for cpuid in [too_low, absent, Cpuid::without_address_sizes()] {
            assert_eq!(cpuid.effective_maxphyaddr(), 36);
        }
        assert_eq!(Cpuid::of(52).effective_maxphyaddr(), 52);
    }
}
