//! What is known of a kernel and its hardware: everything that a verdict depends on besides the
//! observed event. Gathered on the machine, kept in recordings, so that a file can be judged
//! anywhere.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value with its origin, or why there is none. It is asked for at every walk, and cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// The value is known.
    Known {
        /// The value.
        value: T,
        /// Where it came from.
        origin: Arc<str>,
    },
    /// The value is not known.
    Unknown {
        /// Why, and what would make it known.
        why: Arc<str>,
    },
}

impl<T> Default for Fact<T> {
    /// For files that were written before there was such a fact.
    fn default() -> Self {
        Self::Unknown { why: "not recorded".into() }
    }
}

impl<T: Copy> Fact<T> {
    /// A known value.
    pub fn known(value: T, origin: impl Into<Arc<str>>) -> Self {
        Self::Known { value, origin: origin.into() }
    }

    /// An unknown one.
    pub fn unknown(why: impl Into<Arc<str>>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// The value, if known.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Known { value, .. } => Some(*value),
            Self::Unknown { .. } => None,
        }
    }

    /// Where the value came from, or why it is not there.
    pub fn origin(&self) -> &str {
        match self {
            Self::Known { origin, .. } => origin,
            Self::Unknown { why } => why,
        }
    }

    /// The same fact, its value changed by `f`.
    pub fn map<U>(&self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known { value, origin } => {
                Fact::Known { value: f(*value), origin: origin.clone() }
            }
            Self::Unknown { why } => Fact::Unknown { why: why.clone() },
        }
    }

    /// This fact if known, else the other.
    #[must_use]
    pub fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Known { .. } => self,
            Self::Unknown { .. } => other(),
        }
    }
}

impl<T: Copy + fmt::Display> fmt::Display for Fact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { value, origin } => write!(f, "{value} ({origin})"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

/// Who implements virtualisation for this KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// `kvm_intel`: EPT.
    Vmx,
    /// `kvm_amd`: NPT.
    Svm,
    /// Another one, which this program knows nothing of.
    Other(String),
    /// No vendor module is loaded.
    None,
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmx => f.write_str("kvm_intel"),
            Self::Svm => f.write_str("kvm_amd"),
            Self::Other(module) => f.write_str(module),
            Self::None => f.write_str("none"),
        }
    }
}

/// How this kernel decides, found by presence and never by version.
#[expect(clippy::struct_excessive_bools, reason = "each is the presence of one thing")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Behaviour {
    /// KVM has `tdp_root_level`, the level that the vendor forces: 5.15 and later.
    pub has_tdp_root_level: bool,
    /// KVM has `max_tdp_level`: 5.9 and later.
    pub has_max_tdp_level: bool,
    /// The vCPU has `arch.tdp_level`, where the decision is cached: 5.8.
    pub has_cached_tdp_level: bool,
    /// KVM has `cpuid_query_maxguestphyaddr`, used for TDX guests: 6.16 and later.
    pub has_maxguestphyaddr: bool,
    /// KVM has `kvm_mtrr_get_guest_memory_type`, by which entries get memory types of the guest's
    /// MTRRs: before 6.11.
    #[serde(default)]
    pub has_guest_mtrr_types: bool,
    /// Which bit of `kvm_mmu_page_role` is `passthrough`: 5.19 and later.
    #[serde(default)]
    pub passthrough_bit: Option<u8>,
    /// Which bit of `kvm_mmu_page_role` is `invalid`: the page is being thrown away.
    #[serde(default)]
    pub invalid_bit: Option<u8>,
    /// What `kvm_tdp_page_fault` answers, where known.
    #[serde(default)]
    pub ret_pf: Option<RetPf>,
}

/// Values of the enumeration `RET_PF_*`, which differ between kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetPf {
    /// `RET_PF_FIXED`: the fault was resolved.
    pub fixed: u32,
    /// `RET_PF_SPURIOUS`: there was nothing to resolve.
    pub spurious: u32,
}

impl Behaviour {
    /// The decision is cached in the vCPU: 5.8 alone.
    pub fn is_cached(&self) -> bool {
        self.has_cached_tdp_level && !self.has_max_tdp_level
    }

    /// The decision that this kernel takes, by the name that `docs/kernels.md` gives it.
    pub fn era(&self) -> &'static str {
        match self {
            Self { has_maxguestphyaddr: true, .. } => "E (6.16 and later)",
            Self { has_tdp_root_level: true, .. } => "D (5.15 to 6.15)",
            Self { has_max_tdp_level: true, .. } => "C (5.9 to 5.14)",
            Self { has_cached_tdp_level: true, .. } => "B (5.8)",
            Self { .. } => "A (before 5.8), or not known",
        }
    }
}

/// What the hardware says of itself, read without KVM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hardware {
    /// `IA32_VMX_EPT_VPID_CAP`, MSR 0x48c.
    pub ept_vpid_cap: Fact<u64>,
    /// Whether the controls offer EPT: MSR 0x482 bit 63 and MSR 0x48b bit 33.
    pub offers_ept: Fact<bool>,
    /// CPUs whose MSR 0x48c is another, and what it is.
    #[serde(default)]
    pub differing_ept_vpid_cap: Vec<(u32, u64)>,
    /// Whether the host itself runs with 5-level paging.
    pub host_la57: Fact<bool>,
    /// MAXPHYADDR of the host, in bits.
    #[serde(default)]
    pub maxphyaddr: Fact<u8>,
}

/// What KVM holds after `hardware_setup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvmState {
    /// `tdp_enabled`.
    pub tdp_enabled: Fact<bool>,
    /// `max_tdp_level`.
    pub max_tdp_level: Fact<u8>,
    /// `tdp_root_level`; 0 is "not forced".
    pub tdp_root_level: Fact<u8>,
    /// `enable_ept` of `kvm_intel`.
    pub enable_ept: Fact<bool>,
    /// `vmx_capability.ept` of `kvm_intel`.
    pub vmx_capability_ept: Fact<u32>,
    /// `npt_enabled` of `kvm_amd`.
    pub npt_enabled: Fact<bool>,
    /// `enable_ept_ad_bits` of `kvm_intel`.
    #[serde(default)]
    pub enable_ept_ad_bits: Fact<bool>,
    /// MSR 0x48c as KVM offers it to guests that are hypervisors.
    #[serde(default)]
    pub nested_ept_vpid_cap: Fact<u64>,
    /// `allow_smaller_maxphyaddr` of `kvm_intel`: what KVM does about illegal guest-physical
    /// addresses hangs on it, the root level does not.
    #[serde(default)]
    pub allow_smaller_maxphyaddr: Fact<bool>,
    /// `sme_me_mask`: bits of an entry that encrypt and do not address.
    #[serde(default)]
    pub encryption_mask: Fact<u64>,
    /// `shadow_mmio_value` of kvm: what KVM's entries for MMIO have in common. Since 6.10 each VM
    /// has its own.
    #[serde(default)]
    pub shadow_mmio_value: Fact<u64>,
    /// `shadow_mmio_mask` of kvm (5.12 and later): by which bits they are known.
    #[serde(default)]
    pub shadow_mmio_mask: Fact<u64>,
    /// `shadow_mmu_writable_mask` of kvm (5.13 and later): the bit of an entry that KVM may give W
    /// back to.
    #[serde(default)]
    pub shadow_mmu_writable_mask: Fact<u64>,
    /// `tdp_mmu` of kvm: the TDP MMU keeps the tables, which never reclaims pages in use.
    #[serde(default)]
    pub tdp_mmu: Fact<bool>,
    /// `nx_huge_pages` of kvm: huge pages are split when they are executed.
    #[serde(default)]
    pub nx_huge_pages: Fact<bool>,
}

/// Everything known of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelFacts {
    /// `uname -r`, shown and never decided on.
    pub release: String,
    /// The vendor module.
    pub vendor: Vendor,
    /// How this kernel decides.
    pub behaviour: Behaviour,
    /// The hardware.
    pub hardware: Hardware,
    /// KVM.
    pub kvm: KvmState,
}
