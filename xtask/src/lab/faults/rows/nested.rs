//! Faults in how KVM shadows the tables of a hypervisor that is its guest, and in what it shows it.

use super::super::fault::{Change, Fault, change, out, pokes};
use super::{
    ALL, ANY_SVM, ANY_VMX, NO_CAPABILITY, SVM, SVM_LA48, VMX, VMX_CAPABILITY, VMX5, VMX5_CAPABILITY,
};

/// L1 with an L2, which may not come to its end.
const CHECK: &str = "--scenario nested --maxphyaddr 40";

const NO_EPT: &str = "KVM shadows no EPT there";
const NO_NPT: &str = "KVM shadows no NPT there";

/// A change in the role of the MMU for L1's EPT.
const fn shadow_ept(old: &'static str, new: &'static str) -> Change {
    change("kvm_init_shadow_ept_mmu", 311, old, new)
}

/// A change in the role of the MMU for L1's NPT.
const fn shadow_npt(old: &'static str, new: &'static str) -> Change {
    change("kvm_init_shadow_npt_mmu", 228, old, new)
}

/// Low half of the MSR 0x48c that KVM offers, with bit 7, and with bit 9.
const WITH_FIVE_LEVELS: [&str; 2] = ["0x63340c1", VMX_CAPABILITY];
const WITH_FIVE_LEVELS_7_2: [&str; 2] = ["0x67340c1", VMX_CAPABILITY];
const WITH_RESERVED: [&str; 2] = ["0x63342c1", VMX5_CAPABILITY];
const WITH_RESERVED_7_2: [&str; 2] = ["0x67342c1", VMX5_CAPABILITY];
/// Of Debian's kernels, those that do not offer bit 22.
const OLD: &[&str] = &["5.10", "6.1", "6.12"];

const FIVE_LEVELS: &[Change] =
    &[change("vmcs_config", 152, "4140..06010f0000", "c140..06010f0000")];
const RESERVED: &[Change] = &[change("vmcs_config", 152, "c140..06010f0000", "c142..06010f0000")];

/// Faults with nested guests.
pub static FAULTS: &[Fault] = &[
    Fault {
        rule: "EPT501",
        what: "`kvm_init_shadow_ept_mmu` takes 5 levels for L1's 4",
        values: ["5", "4"],
        // Without 5-level EPT the EPTP that is made of it is invalid.
        also: &["EPT201"],
        check: CHECK,
        seeds: &[
            // %ebp is the role's level, %r15d that of the MMU.
            pokes(
                ANY_VMX,
                &["5.10"],
                &[change(
                    "kvm_init_shadow_ept_mmu",
                    784,
                    "bd0400000041bf040000004883f818",
                    "bd0500000041bf050000004883f818",
                )],
            ),
            pokes(
                ANY_VMX,
                &["6.1", "6.12"],
                &[shadow_ept("ba040000004883f818", "ba050000004883f818")],
            ),
            pokes(ANY_VMX, &["7.2"], &[shadow_ept("ba04000000f683", "ba05000000f683")]),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_EPT)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT502",
        what: "L1 is shown EPT of 5 levels, or the reserved bit 9, which the hardware lacks",
        seeds: &[
            pokes(VMX, OLD, FIVE_LEVELS).with(WITH_FIVE_LEVELS),
            pokes(VMX, &["7.2"], FIVE_LEVELS).with(WITH_FIVE_LEVELS_7_2),
            pokes(VMX5, OLD, RESERVED).with(WITH_RESERVED),
            pokes(VMX5, &["7.2"], RESERVED).with(WITH_RESERVED_7_2),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_CAPABILITY)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT503",
        what: "`kvm_init_shadow_npt_mmu` takes the other level, whatever the host's is",
        values: ["5", "4"],
        check: CHECK,
        // With NPT the CPU walks as many levels as it does, whatever KVM has made.
        untold: &["EPT301"],
        seeds: &[
            // The mask of the level's bits makes place for: push the level, pop the register.
            pokes(SVM_LA48, &["5.10"], &[shadow_npt("83fd05746183e50f", "83fd0574616a055d")]),
            pokes(SVM, &["6.1"], &[shadow_npt("83e00f89f1", "6a045889f1")]),
            pokes(SVM_LA48, &["6.1"], &[shadow_npt("83e00f89f1", "6a055889f1")]),
            pokes(SVM, &["6.12"], &[shadow_npt("83e60f89d1", "6a045e89d1")]),
            pokes(SVM_LA48, &["6.12"], &[shadow_npt("83e60f89d1", "6a055e89d1")]),
            pokes(SVM, &["7.2"], &[shadow_npt("83e00f4489e9", "6a04584489e9")]),
            pokes(SVM_LA48, &["7.2"], &[shadow_npt("83e00f4489e9", "6a05584489e9")]),
        ],
        left_out: &[
            out(ANY_VMX, ALL, NO_NPT),
            out(SVM, &["5.10"], "an L2 hangs there as all is well, under an L1 with 5 levels"),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT503",
        what: "`kvm_init_shadow_npt_mmu` leaves out passthrough",
        values: ["false", "true"],
        check: CHECK,
        seeds: &[
            pokes(SVM, &["6.1"], &[shadow_npt("3c04b801000000", "3c04b800000000")]),
            pokes(SVM, &["6.12", "7.2"], &[shadow_npt("0d00000400", "0d00000000")]),
        ],
        left_out: &[
            out(SVM, &["5.10"], "no `passthrough` before 5.19"),
            out(SVM_LA48, ALL, "the host has no level that L1 lacks"),
            out(ANY_VMX, ALL, NO_NPT),
        ],
        ..Fault::USUAL
    },
];
