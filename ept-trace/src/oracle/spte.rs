//! What KVM itself means by an entry, beside what the hardware makes of it.
//!
//! Which bits KVM uses differs between kernels, so the masks that the running KVM holds are asked,
//! and where there is no such mask, its absence tells which kernels it can be.

use super::Known;
use crate::model::{Fact, Walk};

/// R, W and X of EPT; P, W and U of NPT.
const RIGHTS: u64 = 7;
/// 5.4 to 5.12: the kind of an entry; 3 for MMIO.
const SPECIAL: u64 = 3 << 52;
/// 5.13 and later: the entry is one that KVM takes for present.
const MMU_PRESENT: u64 = 1 << 11;
/// Of a leaf above level 1.
const PAGE_SIZE: u64 = 1 << 7;
/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// 6.10 and later: empty entries have it, and so suppress #VE.
const SUPPRESS_VE: u64 = 1 << 63;
/// What stands in an entry while KVM changes it: `REMOVED_SPTE`, later `FROZEN_SPTE`, without bit
/// 63 (5.12; 5.13 to 7.1; 7.2).
const FROZEN: [u64; 3] = [1 << 59, 0x5a0, 0x1a0];

/// How the entries for MMIO are known: `entry & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioEntries {
    /// By these bits,
    pub mask: u64,
    /// that are these.
    pub value: u64,
}

impl MmioEntries {
    /// Those of the walk's VM, if KVM caches MMIO in entries at all.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    pub fn of(walk: &Walk, known: &Known) -> Result<Option<Self>, String> {
        const NO_FACTS: &str = "no facts of the machine";
        let kvm = known.facts().map(|facts| &facts.kvm);
        // Since 6.10 each VM has a value of its own.
        let value = match (walk.mmio_value, kvm.map(|kvm| &kvm.shadow_mmio_value)) {
            (Some(value), _) | (None, Some(&Fact::Known { value, .. })) => value,
            (None, Some(Fact::Unknown { why })) => return Err(format!("shadow_mmio_value: {why}")),
            (None, None) => return Err(format!("shadow_mmio_value: {NO_FACTS}")),
        };
        if value == 0 {
            return Ok(None);
        }
        let mask = match kvm.map(|kvm| &kvm.shadow_mmio_mask) {
            // An entry that KVM takes for present is none, whatever else it has.
            Some(Fact::Known { value: mask, .. }) => mask | MMU_PRESENT,
            // Before 5.12 there was no mask: MMIO was a kind of its own.
            _ if value & SPECIAL == SPECIAL => value | SPECIAL,
            Some(Fact::Unknown { why }) => return Err(format!("shadow_mmio_mask: {why}")),
            None => return Err(format!("shadow_mmio_mask: {NO_FACTS}")),
        };
        Ok(Some(Self { mask, value }))
    }

    /// Whether an entry is one of them.
    pub fn has(&self, entry: u64) -> bool {
        entry & self.mask == self.value
    }
}

/// Where a present entry leads, as KVMs with the bit for present have it (5.13 and later). What it
/// allows is no part of it: the hardware marks use, and KVM takes rights away to see use, and gives
/// them back, without telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub address: u64,
    /// It is that of a table.
    pub is_table: bool,
}

impl Mapping {
    /// Where the entry of a table of this level leads, if it is present for KVM. Entries for MMIO
    /// and frozen ones are not.
    pub fn of(entry: u64, level: u8) -> Option<Self> {
        let is_table = level > 1 && entry & PAGE_SIZE == 0;
        let is_present = entry & MMU_PRESENT != 0;
        is_present.then_some(Self { address: entry & ADDRESS, is_table })
    }
}

/// An entry that the hardware takes for not present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing is mapped.
    Empty,
    /// KVM is changing it.
    Frozen,
    /// It has an address, and its rights were taken away to see whether it is used.
    AccessTracked,
}

impl Absent {
    /// What KVM means by it.
    pub fn of(entry: u64) -> Self {
        let rest = entry & !SUPPRESS_VE;
        if FROZEN.contains(&rest) {
            Self::Frozen
        } else if rest & RIGHTS == 0 && (rest & MMU_PRESENT != 0 || rest & ADDRESS != 0) {
            Self::AccessTracked
        } else {
            Self::Empty
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Behaviour, EventKind, Hardware, KernelFacts, KvmState, Vendor};

    #[test]
    fn what_is_present_leads_somewhere() {
        // As 6.12 and 7.2 made them in the lab, of NPT.
        let table = Mapping { address: 0x534_6000, is_table: true };
        assert_eq!(Mapping::of(0x534_6827, 2), Some(table));
        let page = Mapping { address: 0x450_b000, is_table: false };
        assert_eq!(Mapping::of(0x450_be67, 1), Some(page));
        let large = Mapping { address: 0x4000_0000, is_table: false };
        assert_eq!(Mapping::of(0x4000_0000 | 0xee7, 3), Some(large));
        // Access-tracked, then frozen, empty, MMIO.
        assert_eq!(Mapping::of(0x0140_0000_0450_be60, 1), Some(page));
        for absent in [1 << 63 | 0x5a0, 1 << 63 | 0x1a0, 1 << 63, 0, 0x7e00_0000_fee0_0006] {
            assert_eq!(Mapping::of(absent, 1), None, "{absent:#x}");
        }
    }

    #[test]
    fn entries_that_lead_nowhere() {
        for empty in [0, 1 << 63] {
            assert_eq!(Absent::of(empty), Absent::Empty, "{empty:#x}");
        }
        for frozen in [1 << 59, 0x5a0, 1 << 63 | 0x5a0, 1 << 63 | 0x1a0] {
            assert_eq!(Absent::of(frozen), Absent::Frozen, "{frozen:#x}");
        }
        // R and X saved in 54 and 56, and bit 11; then a kernel without that bit.
        for tracked in [0x0140_0001_2345_6830 | 1 << 11, 1 << 62 | 0x1234_5000] {
            assert_eq!(Absent::of(tracked), Absent::AccessTracked, "{tracked:#x}");
        }
    }

    fn entries(value: Option<u64>, mask: Option<u64>) -> Result<Option<MmioEntries>, String> {
        let fact =
            |word: Option<u64>| word.map_or_else(Fact::default, |word| Fact::known(word, ""));
        let mut known = Known::default();
        known.learn(&EventKind::Facts(Box::new(KernelFacts {
            release: String::new(),
            vendor: Vendor::Vmx,
            behaviour: Behaviour::default(),
            hardware: Hardware::default(),
            kvm: KvmState {
                shadow_mmio_value: fact(value),
                shadow_mmio_mask: fact(mask),
                ..KvmState::default()
            },
        })));
        MmioEntries::of(&Walk::default(), &known)
    }

    #[test]
    fn mmio_is_known_by_the_masks_of_the_running_kvm() {
        // 6.12 with EPT.
        let ept = entries(Some(6), Some(1 << 63 | 7)).unwrap().unwrap();
        assert!(ept.has(0x7e00_0000_fee0_0006));
        assert!(!ept.has(1 << 63 | 0x1234_5f76), "a present entry without R");
        assert!(!ept.has(0x1234_5f76), "the same before 6.10");
        assert!(!ept.has(0x1234_5f77));
        // NPT: bit 51, present.
        let npt = entries(Some(1 << 51 | 1), Some(1 << 51 | 1)).unwrap().unwrap();
        assert!(npt.has(1 << 51 | 0xfee0_0001));
        assert!(!npt.has(1 << 51 | 0x1234_5867), "bit 51 of a present entry");
        // 5.10 has a kind for it, and no mask.
        let old = entries(Some(3 << 52 | 6), None).unwrap().unwrap();
        assert!(old.has(3 << 52 | 0xfee0_0006));
        assert!(!old.has(0x1234_5c76));
    }

    #[test]
    fn where_the_masks_are_not_known_nothing_is_said() {
        assert!(entries(None, None).is_err());
        assert!(entries(Some(6), None).is_err());
        assert_eq!(entries(Some(0), None), Ok(None), "KVM caches no MMIO");
    }
}
