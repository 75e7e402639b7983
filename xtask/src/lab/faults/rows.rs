//! The faults, as data: a row each.
//!
//! Bytes of code are those of Debian's kernels, as their compilers made them. A fault whose bytes
//! are not there is refused when it is to be seeded, and so is told.

use super::fault::{Change, Fault, change, module, out, pokes, variable};
use crate::lab::Cpu;

/// Rules without a row, and why.
pub const WITHOUT: [(&str, &str); 0] = [];

const SVM: &[Cpu] = &[Cpu::Svm];
const SVM_LA48: &[Cpu] = &[Cpu::SvmLa48];
const ANY_SVM: &[Cpu] = &[Cpu::Svm, Cpu::SvmLa48];
const VMX: &[Cpu] = &[Cpu::Vmx];
const VMX5: &[Cpu] = &[Cpu::Vmx5];
const ANY_VMX: &[Cpu] = &[Cpu::Vmx, Cpu::Vmx5];
const ANY: &[Cpu] = &Cpu::ALL;

/// Any kernel at all.
const ALL: &[&str] = &[];
/// Debian's kernels, whose code is known.
const DEBIANS: &[&str] = &["5.10", "6.1", "6.12", "7.2"];
/// Those with `tdp_root_level`.
const FORCING: &[&str] = &["6.1", "6.12", "7.2"];
/// Those whose `hardware_setup` is called `vmx_hardware_setup`.
const RENAMED: &[&str] = &["6.12", "7.2"];

/// Changes in `kvm_init_mmu`.
const fn kvm_init_mmu(old: &'static str, new: &'static str) -> Change {
    change("kvm_init_mmu", 1024, old, new)
}

/// MSR 0x48c of Bochs' two CPUs.
const VMX_CAPABILITY: &str = "0xf0106734141";
const VMX5_CAPABILITY: &str = "0xf01067341c1";

/// All faults.
pub static FAULTS: &[Fault] = &[
    Fault {
        rule: "EPT101",
        what: "`cpuid_query_maxphyaddr` defaults to 37 bits",
        values: ["37", "36"],
        seeds: &[pokes(
            ANY,
            DEBIANS,
            &[change("cpuid_query_maxphyaddr", 152, "24000000", "25000000")],
        )],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT103",
        what: "`kvm_init_mmu` takes the other level, whatever its inputs",
        values: ["4", "5"],
        seeds: &[
            // The mask of the level's bits makes place for: push the level, pop %rcx.
            pokes(
                SVM,
                FORCING,
                &[kvm_init_mmu("83f9050f84........83e10f", "83f9050f84........6a0459")],
            ),
            pokes(
                &[Cpu::SvmLa48, Cpu::Vmx],
                FORCING,
                &[kvm_init_mmu("83f9050f84........83e10f", "83f9050f84........6a0559")],
            ),
            // So does the comparison of the maximum with 5; the jump after it is then not taken.
            pokes(
                &[Cpu::Svm, Cpu::SvmLa48, Cpu::Vmx],
                &["5.10"],
                &[kvm_init_mmu("83f9050f84........89ce", "6a05590f84........89ce")],
            ),
            // The jump at a maximum of 5, to where MAXPHYADDR is asked for, becomes its opposite.
            pokes(
                VMX5,
                FORCING,
                &[kvm_init_mmu("83f9050f84........83e10f", "83f9050f85........83e10f")],
            )
            .with(["5", "36"]),
            pokes(
                VMX5,
                &["5.10"],
                &[kvm_init_mmu("83f9050f84........89ce", "83f9050f85........89ce")],
            )
            .with(["5", "36"]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT104",
        what: "`max_tdp_level` is the other level",
        values: ["4", "5"],
        seeds: &[
            pokes(VMX5, ALL, &[variable("max_tdp_level", "05", "04")]),
            pokes(VMX, ALL, &[variable("max_tdp_level", "04", "05")]),
            pokes(SVM, FORCING, &[variable("max_tdp_level", "05", "04")]),
            pokes(SVM_LA48, FORCING, &[variable("max_tdp_level", "04", "05")]),
            // kvm_amd asks for 4 levels there, whatever the host has.
            pokes(ANY_SVM, &["5.10"], &[variable("max_tdp_level", "04", "05")]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT104",
        what: "`tdp_root_level` is the other level",
        values: ["4", "5"],
        seeds: &[
            // On VMX nothing is forced.
            pokes(VMX5, FORCING, &[variable("tdp_root_level", "00", "04")]),
            pokes(VMX, FORCING, &[variable("tdp_root_level", "00", "05")]),
            pokes(SVM, FORCING, &[variable("tdp_root_level", "05", "04")]),
            pokes(SVM_LA48, FORCING, &[variable("tdp_root_level", "04", "05")]),
        ],
        left_out: &[out(ANY, &["5.10"], "no `tdp_root_level` before 5.15")],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT105",
        what: "`tdp_enabled` is 0, `enable_ept` or `npt_enabled` 1",
        values: ["false", "true"],
        seeds: &[pokes(ANY, ALL, &[variable("tdp_enabled", "01", "00")])],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT105",
        what: "`enable_ept` or `npt_enabled` is 0, `tdp_enabled` 1",
        values: ["false", "true"],
        seeds: &[
            pokes(ANY_VMX, ALL, &[variable("enable_ept", "01", "00")]),
            pokes(ANY_SVM, ALL, &[variable("npt_enabled", "01", "00")]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT106",
        what: "`vmx_capability.ept` has lost bit 8, uncacheable EPT tables",
        seeds: &[
            pokes(VMX, ALL, &[change("vmx_capability", 2, "..41", "..40")])
                .with(["0x6734041", VMX_CAPABILITY]),
            pokes(VMX5, ALL, &[change("vmx_capability", 2, "..41", "..40")])
                .with(["0x67340c1", VMX5_CAPABILITY]),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_CAPABILITY)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT107",
        what: "`hardware_setup` takes 2 MiB for the largest page where it is 1 GiB",
        check: "--reload --maxphyaddr 36 --vcpus 1",
        seeds: &[
            module(VMX, &["5.10"], "kvm_intel", LARGEST_PAGE_5_10).with(["2", VMX_CAPABILITY]),
            module(VMX5, &["5.10"], "kvm_intel", LARGEST_PAGE_5_10).with(["2", VMX5_CAPABILITY]),
            module(VMX, &["6.1"], "kvm_intel", LARGEST_PAGE_6_1).with(["2", VMX_CAPABILITY]),
            module(VMX5, &["6.1"], "kvm_intel", LARGEST_PAGE_6_1).with(["2", VMX5_CAPABILITY]),
            module(VMX, RENAMED, "kvm_intel", LARGEST_PAGE).with(["2", VMX_CAPABILITY]),
            module(VMX5, RENAMED, "kvm_intel", LARGEST_PAGE).with(["2", VMX5_CAPABILITY]),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_CAPABILITY)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT110",
        what: "`kvm_init_mmu` leaves out the direct bit",
        values: ["false", "true"],
        seeds: &[
            pokes(ANY, &["6.1", "6.12"], &[kvm_init_mmu("88c80c80", "88c80c00")]),
            // direct_map, stored right after shadow_root_level.
            pokes(
                ANY,
                &["5.10"],
                &[kvm_init_mmu("888b........c683........01", "888b........c683........00")],
            ),
            // On SVM the TDP MMU would follow a null pointer, and the kernel would die.
            pokes(ANY_SVM, &["7.2"], WITHOUT_TDP_MMU_7_2),
            pokes(ANY_VMX, &["7.2"], DIRECT_7_2),
        ],
        ..Fault::USUAL
    },
];

/// Changes in `kvm_init_mmu`: `or $0x6080` twice, in %ecx and then in %ax.
const DIRECT_ECX_7_2: Change = change("kvm_init_mmu", 1514, "81c980600000", "81c900600000");
const DIRECT_AX_7_2: Change = change("kvm_init_mmu", 1514, "660d8060", "660d0060");
const DIRECT_7_2: &[Change] = &[DIRECT_ECX_7_2, DIRECT_AX_7_2];
const WITHOUT_TDP_MMU_7_2: &[Change] =
    &[variable("tdp_mmu_enabled", "01", "00"), DIRECT_ECX_7_2, DIRECT_AX_7_2];

const NO_CAPABILITY: &str = "NPT has no capability register";

/// `mov $3,%edx` after `bt $17,%eax`: the level where the capability has 1 GiB pages.
const LARGEST_PAGE_5_10: &[Change] =
    &[change("hardware_setup", 1024, "0fbae011ba03000000", "0fbae011ba02000000")];
/// `mov $3,%ecx` before `bt $17`: the same.
const LARGEST_PAGE_6_1: &[Change] =
    &[change("hardware_setup", 1024, "b9030000000fba..11", "b9020000000fba..11")];
const LARGEST_PAGE: &[Change] =
    &[change("vmx_hardware_setup", 1024, "b9030000000fba..11", "b9020000000fba..11")];

#[cfg(test)]
mod tests {
    use super::super::fault::How;
    use super::*;
    use crate::lab::poke::Poke;
    use crate::lab::{Cell, KernelChoice};

    fn cells() -> Vec<Cell> {
        let kernels = KernelChoice::parse("all", None).unwrap_or_default();
        let row = |cpu| kernels.iter().cloned().map(move |kernel| Cell { cpu, kernel });
        Cpu::ALL.into_iter().flat_map(row).collect()
    }

    #[test]
    fn every_change_can_be_made_and_taken_back() {
        for seed in FAULTS.iter().flat_map(|fault| fault.seeds) {
            let (How::Pokes(changes) | How::Module(_, changes)) = seed.how else { continue };
            for Change { within, old, new, .. } in changes {
                for text in [format!("0 {within} {old} {new}"), format!("0 {within} {new} {old}")] {
                    assert!(text.parse::<Poke>().is_ok(), "{text}");
                }
                assert_ne!(old, new);
            }
        }
    }

    #[test]
    fn a_cell_without_a_seed_has_a_reason() {
        for cell in cells() {
            for fault in FAULTS {
                assert_ne!(fault.seed(&cell).err(), Some(""), "{} {cell}", fault.what);
            }
        }
    }

    #[test]
    fn a_fault_has_two_values_wherever_it_is_seeded() {
        for cell in cells() {
            for fault in FAULTS {
                let values = fault.seed(&cell).map_or(["-"; 2], |seed| fault.values(seed));
                assert!(!values.contains(&""), "{} {cell}", fault.what);
            }
        }
    }

    #[test]
    fn a_changed_module_is_loaded() {
        for fault in FAULTS {
            let is_module = fault.seeds.iter().any(|seed| matches!(seed.how, How::Module(..)));
            assert!(!is_module || fault.check.contains("--reload"), "{}", fault.what);
        }
    }
}
