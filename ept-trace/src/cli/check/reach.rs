//! How far KVM's tables reach.

use crate::model::KernelFacts;
use crate::oracle::expected_levels;

/// Most bits of a guest-physical address: SDM Vol. 3A §4.1.4.
const ALL_BITS: u8 = 52;

/// Width in bits of the GPAs that this KVM's tables can reach, with a root of as many levels as it
/// has; or why it is not known.
pub(super) fn of(facts: &KernelFacts) -> Result<u8, String> {
    let KernelFacts { vendor, behaviour, hardware, kvm, .. } = facts;
    if kvm.tdp_enabled.value() == Some(false) {
        // Shadow page tables map addresses of the guest's own paging.
        return Ok(ALL_BITS);
    }
    let set_up = || expected_levels(vendor, behaviour, hardware, &hardware.ept_vpid_cap);
    let levels = kvm.max_tdp_level.clone().or(|| set_up().map(|(_, max)| max));
    match levels.value() {
        Some(levels) => Ok(levels.saturating_mul(9).saturating_add(12).min(ALL_BITS)),
        None => Err(format!("how many levels KVM's tables have is {levels}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Behaviour, Fact, Hardware, KvmState, Vendor};

    fn facts(vendor: Vendor, kvm: KvmState, ept_vpid_cap: Fact<u64>) -> KernelFacts {
        let hardware = Hardware { ept_vpid_cap, ..Hardware::default() };
        let behaviour = Behaviour::default();
        KernelFacts { release: String::new(), vendor, behaviour, hardware, kvm }
    }

    #[test]
    fn five_levels_reach_all_and_four_48_bits() {
        let known = |value| Fact::known(value, "test");
        let of = |kvm, capability| of(&facts(Vendor::Vmx, kvm, capability));
        let max = |level| KvmState { max_tdp_level: known(level), ..KvmState::default() };
        let unknown = || Fact::unknown("test");
        assert_eq!(of(max(4), unknown()), Ok(48));
        assert_eq!(of(max(5), unknown()), Ok(52));
        // Bit 7 of the capability: 5 levels.
        let capability = |bits| Fact::known(bits, "MSR");
        assert_eq!(of(KvmState::default(), capability(1 << 6)), Ok(48));
        assert_eq!(of(KvmState::default(), capability(1 << 6 | 1 << 7)), Ok(52));
        assert!(of(KvmState::default(), unknown()).is_err());
        let soft = KvmState { tdp_enabled: Fact::known(false, "test"), ..max(4) };
        assert_eq!(of(soft, unknown()), Ok(52));
    }
}
