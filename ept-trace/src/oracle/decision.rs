//! The three ways of `kvm_init_mmu`, and the level that each ends in.

use ept_trace_common::decision::{
    X86_TDX_VM, query_maxguestphyaddr, shadow_root_level, tdp_root_level,
};

use crate::model::{Behaviour, CpuidLeaves, Fact, Mode};

/// What the decision is taken on.
#[derive(Clone, Debug)]
pub struct ReplayInputs<'a> {
    /// How this kernel decides.
    pub behaviour: &'a Behaviour,
    /// `arch.mmu == &arch.guest_mmu`.
    pub nested: bool,
    /// `tdp_enabled`.
    pub tdp_enabled: Fact<bool>,
    /// `tdp_root_level`, 0 where nothing is forced or the kernel has no such variable.
    pub forced: Fact<u8>,
    /// `max_tdp_level`, or what the capability allows where the kernel has no such variable.
    pub max: Fact<u8>,
    /// `vcpu->arch.maxphyaddr`.
    pub maxphyaddr: Fact<u8>,
    /// `kvm->arch.vm_type`.
    pub vm_type: Option<u32>,
    /// The vCPU's CPUID leaves, which decide for TDX guests; `None` if they could not be read.
    pub cpuid: Option<CpuidLeaves>,
    /// `vcpu->arch.cr4` and `vcpu->arch.efer`, which shadow paging follows.
    pub paging: Option<(u64, u64)>,
}

/// Which way the decision went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// `init_kvm_nested_mmu`: no root level is chosen.
    Nested,
    /// `tdp_root_level` is set, and is the answer.
    Forced,
    /// `max_tdp_level` is 5 and MAXPHYADDR at most 48: 4 levels reach it all.
    FourReaches,
    /// `max_tdp_level` is the answer.
    Max,
    /// Shadow paging follows the guest's own mode.
    Shadow,
}

/// The fact without which the decision cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which, in the kernel's terms.
    pub what: &'static str,
    /// Why it is not there.
    pub why: String,
}

/// A decision, replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Which MMU is set up.
    pub mode: Mode,
    /// Which way the decision went.
    pub branch: Branch,
    /// The root level; none where nested, for then the root MMU is left as it is.
    pub level: Option<u8>,
}

/// Replays `kvm_init_mmu`.
///
/// Dispatcher: `mmu_is_nested`, then `tdp_enabled`, the same on all kernels from 4.14 to 7.3.
/// Level: see [`tdp_root_level`].
///
/// # Errors
///
/// The first fact that the way taken needs and that is not known.
pub fn replay(inputs: &ReplayInputs<'_>) -> Result<Replay, Missing> {
    if inputs.nested {
        return Ok(Replay { mode: Mode::Nested, branch: Branch::Nested, level: None });
    }
    if !need("tdp_enabled", &inputs.tdp_enabled)? {
        let (cr4, efer) = inputs.paging.ok_or_else(|| Missing {
            what: "CR4 and EFER of the vCPU",
            why: "they could not be read".to_owned(),
        })?;
        let level = Some(shadow_root_level(cr4, efer));
        return Ok(Replay { mode: Mode::Soft, branch: Branch::Shadow, level });
    }
    let forced = need("tdp_root_level", &inputs.forced)?;
    let max = need("max_tdp_level", &inputs.max)?;
    let width = guest_width(inputs, forced)?;
    let branch = match (forced, max) {
        (1.., _) => Branch::Forced,
        (0, 5) if width <= 48 => Branch::FourReaches,
        _ => Branch::Max,
    };
    let level = Some(tdp_root_level(forced, max, width));
    Ok(Replay { mode: Mode::Tdp, branch, level })
}

/// The width that is held against 48: MAXPHYADDR, or GPAW of a TDX guest.
fn guest_width(inputs: &ReplayInputs<'_>, forced: u8) -> Result<u8, Missing> {
    if forced != 0 {
        return Ok(0);
    }
    if inputs.vm_type == Some(X86_TDX_VM) {
        // Whether this kernel goes by GPAW is told by a symbol that a compiler may inline, so
        // its absence proves nothing.
        if !inputs.behaviour.has_maxguestphyaddr {
            return Err(Missing {
                what: "whether this kernel takes a TDX guest's level from GPAW",
                why: "cpuid_query_maxguestphyaddr is not among its symbols".to_owned(),
            });
        }
        let cpuid = inputs.cpuid.ok_or_else(|| Missing {
            what: "the CPUID of a TDX guest",
            why: "the vCPU's entries could not be read".to_owned(),
        })?;
        return Ok(query_maxguestphyaddr(cpuid.max_leaf, cpuid.address_sizes));
    }
    need("arch.maxphyaddr", &inputs.maxphyaddr)
}

fn need<T: Copy>(what: &'static str, fact: &Fact<T>) -> Result<T, Missing> {
    fact.value().ok_or_else(|| Missing { what, why: fact.origin().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmx5(behaviour: &Behaviour, maxphyaddr: u8) -> ReplayInputs<'_> {
        ReplayInputs {
            behaviour,
            nested: false,
            tdp_enabled: Fact::known(true, "test"),
            forced: Fact::known(0, "test"),
            max: Fact::known(5, "test"),
            maxphyaddr: Fact::known(maxphyaddr, "test"),
            vm_type: None,
            cpuid: None,
            paging: None,
        }
    }

    #[test]
    fn vmx_with_five_levels() {
        let behaviour = Behaviour::default();
        for (maxphyaddr, branch, level) in
            [(36, Branch::FourReaches, 4), (48, Branch::FourReaches, 4), (49, Branch::Max, 5)]
        {
            let replay = replay(&vmx5(&behaviour, maxphyaddr)).unwrap();
            assert_eq!((replay.branch, replay.level), (branch, Some(level)));
        }
    }

    #[test]
    fn nested_leaves_the_root_mmu_alone() {
        let behaviour = Behaviour::default();
        let inputs = ReplayInputs { nested: true, ..vmx5(&behaviour, 52) };
        assert_eq!(replay(&inputs).unwrap().level, None);
    }

    #[test]
    fn shadow_paging_follows_the_guest() {
        let behaviour = Behaviour::default();
        let inputs = ReplayInputs {
            tdp_enabled: Fact::known(false, "test"),
            paging: Some((0, 0)),
            ..vmx5(&behaviour, 52)
        };
        assert_eq!(replay(&inputs).unwrap().level, Some(3));
    }

    #[test]
    fn a_missing_fact_is_named() {
        let behaviour = Behaviour::default();
        let inputs = ReplayInputs { max: Fact::unknown("no such symbol"), ..vmx5(&behaviour, 52) };
        assert_eq!(replay(&inputs).unwrap_err().what, "max_tdp_level");
    }

    #[test]
    fn a_tdx_guest_goes_by_gpaw() {
        let behaviour = Behaviour { has_maxguestphyaddr: true, ..Behaviour::default() };
        let tdx = |max_leaf, address_sizes| ReplayInputs {
            vm_type: Some(X86_TDX_VM),
            cpuid: Some(CpuidLeaves { entries: 2, max_leaf, address_sizes }),
            ..vmx5(&behaviour, 52)
        };
        let level = |inputs| replay(&inputs).unwrap().level;
        assert_eq!(level(tdx(Some(0x80000008), Some(0x300034))), Some(4));
        assert_eq!(level(tdx(Some(0x80000008), Some(0x340034))), Some(5));
        assert_eq!(level(tdx(Some(0x80000008), None)), Some(4), "a missing leaf counts as 0");
        assert_eq!(level(tdx(Some(0x80000007), Some(0x340034))), Some(4), "as does a hidden one");
        let unread = ReplayInputs { cpuid: None, ..tdx(None, None) };
        assert!(replay(&unread).is_err(), "what could not be read is not missing");
        let old = Behaviour::default();
        let inputs = ReplayInputs { behaviour: &old, ..tdx(Some(0x80000008), Some(0x340034)) };
        assert!(replay(&inputs).is_err());
    }
}
