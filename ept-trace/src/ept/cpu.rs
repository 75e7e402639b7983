//! What a walk depends on beside the tables: the CPU and the VM-execution controls.

use super::EptCapability;

/// The widest physical address of the architecture, in bits.
pub(super) const WIDEST: u8 = 52;

/// An Intel CPU in VMX non-root operation, with "enable EPT" set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// IA32_VMX_EPT_VPID_CAP.
    pub capability: EptCapability,
    /// `CPUID.80000008H:EAX[7:0]`, up to 52; more counts as 52.
    pub maxphyaddr: u8,
    /// `IA32_TME_ACTIVATE[39:36]`: the upper address bits that select a key, 0 without TME. They
    /// narrow host-physical addresses and not guest-physical ones (SDM 31.3.1).
    pub tme_keyid_bits: u8,
    /// The VM-execution controls.
    pub controls: Controls,
}

impl Cpu {
    /// Bits in an address that EPT entries and the EPTP can hold (SDM 31.3.2, 29.2.1).
    pub fn hpa_width(&self) -> u8 {
        self.gpa_width().saturating_sub(self.tme_keyid_bits)
    }

    /// Bits in an address that the guest can give to EPT (SDM 31.3.1).
    pub fn gpa_width(&self) -> u8 {
        self.maxphyaddr.min(WIDEST)
    }
}

/// The VM-execution controls that change what a walk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one bit of the VMCS")]
pub struct Controls {
    /// Mode-based execute control: bit 10 allows execution at user-mode linear addresses.
    pub mbe: bool,
    /// Sub-page write permissions: bit 61 of a PTE.
    pub spp: bool,
    /// EPT paging-write: bit 58 of a leaf.
    pub paging_write: bool,
    /// Guest-paging verification: bit 57 of a leaf.
    pub guest_paging_verification: bool,
    /// EPT-violation #VE: bit 63.
    pub ve: bool,
    /// NMI exiting, a pin-based control.
    pub nmi_exiting: bool,
    /// Virtual NMIs, a pin-based control.
    pub virtual_nmis: bool,
    /// The PML index of the VMCS if page-modification logging is on; 0 to 511 is room left.
    pub pml_index: Option<u16>,
}
