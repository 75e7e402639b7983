//! What `hardware_setup` should have made of the hardware.

use ept_trace_common::decision::max_ept_level;

use crate::model::{Behaviour, Fact, Hardware, Vendor};

/// A capability bit that `hardware_setup` of VMX asks for before it enables EPT.
#[derive(Clone, Copy, Debug)]
pub struct EptCondition {
    /// The kernel's function that tests it.
    pub function: &'static str,
    /// Its bit in `IA32_VMX_EPT_VPID_CAP`; SDM Vol. 3D §A.10.
    pub bit: u8,
}

/// The conditions on the capability; the last one from 4.19, which every kernel that can run the
/// live hooks has. On a CPU with bit 7 and without bit 6, EPT is therefore off.
pub const EPT_CONDITIONS: [EptCondition; 3] = [
    EptCondition { function: "cpu_has_vmx_ept_4levels", bit: 6 },
    EptCondition { function: "cpu_has_vmx_ept_mt_wb", bit: 14 },
    EptCondition { function: "cpu_has_vmx_invept_global", bit: 26 },
];

/// Whether a capability lets `hardware_setup` enable EPT, and else the conditions it fails.
pub fn may_enable_ept(capability: u64) -> Result<(), Vec<EptCondition>> {
    let failed: Vec<_> = EPT_CONDITIONS
        .into_iter()
        .filter(|condition| capability & (1 << condition.bit) == 0)
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// The largest page level that `hardware_setup` of VMX hands to kvm: 3 for 1 GiB (bit 17), 2 for
/// 2 MiB (bit 16), else 1.
pub fn ept_huge_page_level(capability: u64) -> u8 {
    if capability & (1 << 17) != 0 {
        3
    } else if capability & (1 << 16) != 0 {
        2
    } else {
        1
    }
}

/// `(tdp_root_level, max_tdp_level)` that the vendor should have handed to kvm.
///
/// VMX: nothing forced, and the maximum from bit 7 of the capability (`vmx_get_max_ept_level`).
/// SVM: NPT has as many levels as the host's own paging. From 5.15 that is forced
/// (`svm_hardware_setup`, 746700d21fd5); before, `get_max_npt_level` gives 4 always, which is wrong
/// on a host with 5 (03ca4589fabc keeps kvm_amd from loading there).
pub fn expected_levels(
    vendor: &Vendor,
    behaviour: &Behaviour,
    hardware: &Hardware,
    capability: &Fact<u64>,
) -> Fact<(u8, u8)> {
    match vendor {
        Vendor::Vmx => capability.map(|capability| (0, max_ept_level(capability))),
        Vendor::Svm if behaviour.has_tdp_root_level => hardware.host_la57.map(|la57| {
            let level = if la57 { 5 } else { 4 };
            (level, level)
        }),
        Vendor::Svm if behaviour.has_max_tdp_level => {
            hardware.host_la57.map(|la57| (0, if la57 { 5 } else { 4 }))
        }
        Vendor::Svm => Fact::unknown("how this kernel sets up NPT levels is not known"),
        Vendor::Other(module) => Fact::unknown(format!("what {module} should set up is not known")),
        Vendor::None => Fact::unknown("no vendor module is loaded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << 6 | 1 << 14 | 1 << 26;

    #[test]
    fn the_largest_page_follows_its_bits() {
        let level = |bits: &[u8]| {
            ept_huge_page_level(bits.iter().fold(0, |capability, bit| capability | 1 << bit))
        };
        assert_eq!([level(&[]), level(&[16]), level(&[17]), level(&[16, 17])], [1, 2, 3, 3]);
    }

    #[test]
    fn each_condition_counts() {
        assert!(may_enable_ept(ALL).is_ok());
        for condition in EPT_CONDITIONS {
            let failed = may_enable_ept(ALL & !(1 << condition.bit)).unwrap_err();
            assert_eq!(failed.len(), 1);
            assert_eq!(failed[0].function, condition.function);
        }
        assert!(may_enable_ept(ALL & !(1 << 6) | 1 << 7).is_err(), "5 levels without 4");
    }
}
