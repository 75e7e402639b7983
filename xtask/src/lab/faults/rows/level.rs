//! Faults in how the root level is chosen, and in what it is chosen from.

use super::super::fault::{Change, Fault, Verdict, change, guest, module, out, pokes, variable};
use super::{
    ALL, ANY, ANY_SVM, ANY_VMX, DEBIANS, FORCING, NO_CAPABILITY, RENAMED, SVM, SVM_LA48, VMX,
    VMX_CAPABILITY, VMX5, VMX5_CAPABILITY,
};
use crate::lab::Cpu;

/// Changes in `kvm_init_mmu`.
const fn kvm_init_mmu(old: &'static str, new: &'static str) -> Change {
    change("kvm_init_mmu", 1024, old, new)
}

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
        rule: "EPT102",
        what: "`kvm_init_mmu` sets up `nonpaging_page_fault` for TDP",
        values: ["not kvm_tdp_page_fault", "true"],
        // A store of 0 next to that of the function becomes: add what is between both functions.
        seeds: &[
            pokes(
                ANY,
                &["5.10"],
                &[change("kvm_init_mmu", 1743, "48c783e003000000000000", "8183b8030000d008000090")],
            ),
            pokes(
                ANY,
                &["6.1"],
                &[kvm_init_mmu("48c783d802000000000000", "8183b8020000700b000090")],
            ),
            // The roots of the TDP MMU are not for that function, and the kernel would die.
            pokes(
                ANY,
                &["6.12"],
                &[
                    WITHOUT_TDP_MMU,
                    change(
                        "kvm_init_mmu",
                        1190,
                        "48c783d002000000000000",
                        "8183b8020000100a000090",
                    ),
                ],
            ),
            pokes(
                ANY,
                &["7.2"],
                &[
                    WITHOUT_TDP_MMU,
                    change(
                        "kvm_init_mmu",
                        1514,
                        "48c783d002000000000000",
                        "8183b8020000600c000090",
                    ),
                ],
            ),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT103",
        what: "`kvm_init_mmu` takes the other level, whatever its inputs",
        values: ["4", "5"],
        // What hangs is seen to hang.
        // On hardware without walks of 5 levels the EPTP that follows is invalid as well.
        also: &["EPT121", "EPT201"],
        // With NPT the CPU walks as many levels as it does, whatever KVM has made.
        untold: &["EPT301"],
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
        // What hangs is seen to hang.
        also: &["EPT121"],
        // With NPT the CPU walks as many levels as it does, whatever KVM has made.
        untold: &["EPT301"],
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
        // What hangs is seen to hang.
        // On hardware without walks of 5 levels the EPTP that follows is invalid as well.
        also: &["EPT121", "EPT201"],
        // With NPT the CPU walks as many levels as it does, whatever KVM has made.
        untold: &["EPT301"],
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
        // The hardware walks 4 levels of a table that shadow paging has made with 3.
        also: &["EPT202"],
        seeds: &[pokes(ANY, ALL, &[variable("tdp_enabled", "01", "00")])],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT105",
        what: "`enable_ept` or `npt_enabled` is 0, `tdp_enabled` 1",
        values: ["false", "true"],
        // What hangs is seen to hang.
        also: &["EPT121"],
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
        rule: "EPT108",
        what: "the MMU is not set up again after the CPUID is set",
        values: ["4", "5"],
        check: "--maxphyaddr 52 --vcpus 1",
        seeds: &[
            // The call of kvm_mmu_reset_context becomes a test of the same length.
            pokes(
                VMX5,
                &["5.10"],
                &[change("kvm_vcpu_after_set_cpuid", 830, "8985280e0000e8", "8985280e0000a9")],
            ),
            // The function returns at once.
            pokes(
                VMX5,
                FORCING,
                &[change("kvm_mmu_after_set_cpuid", 200, "55488db7a8020000", "c3488db7a8020000")],
            ),
        ],
        left_out: &[out(FIXED, ALL, FIXED_LEVEL)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT109",
        what: "another guest: its vCPUs have MAXPHYADDR 36 and 52",
        verdict: Verdict::Advisory,
        values: ["4", "5"],
        check: "--mixed 52,52 --guest-phys-bits 48",
        seeds: &[guest(VMX5, ALL, "--mixed 36,52 --guest-phys-bits 48")],
        left_out: &[out(FIXED, ALL, FIXED_LEVEL)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT110",
        what: "`kvm_init_mmu` leaves out the direct bit",
        values: ["false", "true"],
        // From 6.19 on the EPTP is made of the root's page, which KVM does not find: it is all ones.
        also: &["EPT201", "EPT203"],
        // The root that KVM walks is not the one that it has pages for.
        untold: &["EPT301"],
        seeds: &[
            pokes(ANY, &["6.1", "6.12"], &[kvm_init_mmu("88c80c80", "88c80c00")]),
            // direct_map, stored right after shadow_root_level.
            pokes(
                ANY,
                &["5.10"],
                &[kvm_init_mmu("888b........c683........01", "888b........c683........00")],
            ),
            // On SVM the TDP MMU would follow a null pointer, and the kernel would die.
            pokes(ANY_SVM, &["7.2"], DIRECT_WITHOUT_TDP_MMU_7_2),
            pokes(ANY_VMX, &["7.2"], DIRECT_7_2),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT120",
        what: "another guest: it is not told that only 48 of its 52 bits are mapped",
        verdict: Verdict::Advisory,
        values: ["52", "4"],
        check: "--maxphyaddr 52 --vcpus 1 --guest-phys-bits 48",
        seeds: &[
            guest(VMX, ALL, UNTOLD),
            guest(SVM_LA48, ALL, UNTOLD),
            // kvm_amd asks for 4 levels there, whatever the host has.
            guest(SVM, &["5.10"], UNTOLD),
        ],
        left_out: &[out(VMX5, ALL, ALL_MAPPED), out(SVM, ALL, ALL_MAPPED)],
        ..Fault::USUAL
    },
];

/// As with `kvm.tdp_mmu=0`.
const WITHOUT_TDP_MMU: Change = variable("tdp_mmu_enabled", "01", "00");

/// Where the root has as many levels for any guest.
const FIXED: &[Cpu] = &[Cpu::Svm, Cpu::SvmLa48, Cpu::Vmx];
const FIXED_LEVEL: &str = "the level does not depend on MAXPHYADDR there";

const UNTOLD: &str = "--maxphyaddr 52 --vcpus 1 --guest-phys-bits 0";
const ALL_MAPPED: &str = "the root maps all of it";

/// Changes in `kvm_init_mmu`: `or $0x6080` twice, in %ecx and then in %ax.
const DIRECT_ECX_7_2: Change = change("kvm_init_mmu", 1514, "81c980600000", "81c900600000");
const DIRECT_AX_7_2: Change = change("kvm_init_mmu", 1514, "660d8060", "660d0060");
const DIRECT_7_2: &[Change] = &[DIRECT_ECX_7_2, DIRECT_AX_7_2];
const DIRECT_WITHOUT_TDP_MMU_7_2: &[Change] = &[WITHOUT_TDP_MMU, DIRECT_ECX_7_2, DIRECT_AX_7_2];

/// `mov $3,%edx` after `bt $17,%eax`: the level where the capability has 1 GiB pages.
const LARGEST_PAGE_5_10: &[Change] =
    &[change("hardware_setup", 1024, "0fbae011ba03000000", "0fbae011ba02000000")];
/// `mov $3,%ecx` before `bt $17`: the same.
const LARGEST_PAGE_6_1: &[Change] =
    &[change("hardware_setup", 1024, "b9030000000fba..11", "b9020000000fba..11")];
const LARGEST_PAGE: &[Change] =
    &[change("vmx_hardware_setup", 1024, "b9030000000fba..11", "b9020000000fba..11")];
