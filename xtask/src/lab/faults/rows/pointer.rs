//! Faults in what the hardware is given: the root, and the pointer that is made of it.

use super::super::fault::{Change, Fault, change, out, pokes, variable};
use super::{
    ALL, ANY_SVM, ANY_VMX, FORCING, SVM, SVM_LA48, VMX, VMX_CAPABILITY, VMX5, VMX5_CAPABILITY,
};

/// Of Debian's kernels, those that make the EPTP within `vmx_load_mmu_pgd`.
const INLINED: &[&str] = &["5.10", "6.1", "6.12"];

/// A change where the EPTP is made.
const fn inlined(old: &'static str, new: &'static str) -> Change {
    change("vmx_load_mmu_pgd", 590, old, new)
}

/// The same in 7.2, where that is a function of its own.
const fn construct_eptp(old: &'static str, new: &'static str) -> Change {
    change("construct_eptp", 146, old, new)
}

/// A change of what is handed to `load_mmu_pgd`.
const fn kvm_mmu_load(old: &'static str, new: &'static str) -> Change {
    change("kvm_mmu_load", 1500, old, new)
}

const NO_EPTP: &str = "NPT has no EPTP";
/// Where roots are cannot be known.
const ANY_ROOTS: [&str; 2] = ["0x*000", "0x*000"];
/// Beyond the lab's memory.
const NOWHERE: [&str; 2] = ["0x50000000", "0x*000"];
/// What KVM answers each time, and where the code of the guests is.
const LOOPS: [&str; 2] = ["RET_PF_SPURIOUS", "0x1000"];

/// `or $0x46,%rax; mov %rax,%rsi`, where %rsi has memory type, walk length and those flags.
const EPTP_FLAGS: &str = "4883c8464889c6";
/// `lea 0x18(,%rax,8),%rax`: the walk length.
const EPTP_LENGTH_7_2: &str = "488d04c518000000";

const RESERVED_BIT: &[Change] = &[inlined(EPTP_FLAGS, "4881ce46080000")];
const RESERVED_BIT_7_2: &[Change] = &[construct_eptp(EPTP_LENGTH_7_2, "488d04c518080000")];

/// Faults in what the hardware is given.
pub static FAULTS: &[Fault] = &[
    Fault {
        rule: "EPT121",
        what: "`svm_load_mmu_pgd` writes an nCR3 that is beyond all memory",
        values: LOOPS,
        is_silent_else: true,
        seeds: &[
            // A constant goes to nested_cr3, in the place of %rsi; %rax is as it was.
            pokes(
                ANY_SVM,
                &["5.10"],
                &[change(
                    "svm_load_mmu_pgd",
                    103,
                    "4889b0b0000000488b8718270000",
                    "c780b0000000000000500f1f4000",
                )],
            ),
            pokes(
                ANY_SVM,
                &["6.1", "6.12"],
                &[change("svm_load_mmu_pgd", 228, "4809f2488990b0000000", "c780b000000000000050")],
            ),
            pokes(
                ANY_SVM,
                &["7.2"],
                &[change("svm_load_mmu_pgd", 286, "4809f148898ab0000000", "c782b000000000000050")],
            ),
        ],
        left_out: &[out(ANY_VMX, ALL, "a wrong EPTP is seen as such (EPT203)")],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT121",
        what: "KVM's entries for EPT lack the bit to execute",
        values: LOOPS,
        // Each of those faults was resolved, and comes back.
        also: &["EPT302"],
        is_silent_else: true,
        seeds: &[
            pokes(ANY_VMX, &["5.10", "6.1", "6.12"], &[variable("shadow_x_mask", "04", "00")]),
            // One bit for the supervisor, and one for the user, whose every address is without paging.
            pokes(
                ANY_VMX,
                &["7.2"],
                &[
                    variable("shadow_xs_mask", "04", "00"),
                    change("shadow_xu_mask", 2, "0004", "0000"),
                ],
            ),
        ],
        left_out: &[out(ANY_SVM, ALL, "NPT has a bit not to execute instead")],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT201",
        what: "the EPTP has the reserved bit 11",
        seeds: &[
            pokes(VMX, INLINED, RESERVED_BIT).with(["0x*85e", VMX_CAPABILITY]),
            pokes(VMX5, INLINED, RESERVED_BIT).with(["0x*85e", VMX5_CAPABILITY]),
            pokes(VMX, &["7.2"], RESERVED_BIT_7_2).with(["0x*85e", VMX_CAPABILITY]),
            pokes(VMX5, &["7.2"], RESERVED_BIT_7_2).with(["0x*85e", VMX5_CAPABILITY]),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_EPTP)],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT202",
        what: "the level that the hardware, or its driver, is told is not the root's",
        values: ["5", "4"],
        // Without 5-level EPT it is also invalid; and what hangs is seen to hang.
        also: &["EPT201", "EPT121"],
        seeds: &[
            // What is compared with 5 is compared with 4.
            pokes(ANY_VMX, INLINED, &[inlined("83fa05", "83fa04")]),
            pokes(ANY_VMX, &["7.2"], &[construct_eptp("3c05", "3c04")]),
            // The mask of the level's bits makes place for: push a level, pop %rdx (or %r14).
            pokes(SVM, FORCING, &[kvm_mmu_load("4889df83e20fe8", "4889df6a045ae8")]),
            pokes(SVM_LA48, FORCING, &[kvm_mmu_load("4889df83e20fe8", "4889df6a055ae8")]),
            pokes(ANY_SVM, &["5.10"], &[kvm_mmu_load("440fb67059", "6a05415e90")]),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT203",
        what: "the root that the hardware, or its driver, is told is not the MMU's",
        // What hangs is seen to hang.
        also: &["EPT121"],
        seeds: &[
            // Bit 30 is beyond the lab's memory, and so is set in no root.
            pokes(ANY_VMX, INLINED, &[inlined(EPTP_FLAGS, "4881ce46000040")]).with(ANY_ROOTS),
            pokes(ANY_VMX, &["7.2"], &[construct_eptp(EPTP_LENGTH_7_2, "488d04c518000040")])
                .with(ANY_ROOTS),
            // root.hpa is not asked for, nor whether it is valid: a constant is taken.
            pokes(
                ANY_SVM,
                &["5.10"],
                &[kvm_mmu_load("4c8b68404983fdff7456", "49c7c5000000500f1f00")],
            )
            .with(NOWHERE),
            pokes(
                ANY_SVM,
                &["6.1"],
                &[kvm_mmu_load("488b70404883feff740f", "48c7c6000000500f1f00")],
            )
            .with(NOWHERE),
            pokes(
                ANY_SVM,
                &["6.12", "7.2"],
                &[kvm_mmu_load("488b70384883feff740f", "48c7c6000000500f1f00")],
            )
            .with(NOWHERE),
        ],
        ..Fault::USUAL
    },
    Fault {
        rule: "EPT204",
        what: "the EPTP lacks bit 6, accessed and dirty flags",
        values: ["false", "true"],
        seeds: &[
            pokes(ANY_VMX, INLINED, &[inlined(EPTP_FLAGS, "4883c8064889c6")]),
            pokes(ANY_VMX, &["7.2"], &[construct_eptp("4883c846f6412601", "4883c806f6412601")]),
        ],
        left_out: &[out(ANY_SVM, ALL, NO_EPTP)],
        ..Fault::USUAL
    },
];
