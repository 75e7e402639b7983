//! The faults, as data: what is broken in a running kernel, where, and what must be found.
//!
//! Bytes of code are those of Debian's kernels, as their compilers made them. A fault whose bytes
//! are not there is refused by the poke, and so is told.

use crate::lab::{Cell, Cpu, KernelChoice};

/// One fault.
#[derive(Debug)]
pub struct Fault {
    /// The rule that must find it.
    pub rule: &'static str,
    /// What is broken, for people.
    pub what: &'static str,
    /// Both values, which the evidence must have: what KVM has, and what the rule holds against it.
    pub values: [&'static str; 2],
    /// Other rules for which it is a fault as well.
    pub also: &'static [&'static str],
    /// How it is seeded, by cell.
    pub seeds: &'static [Seed],
    /// Why others of Debian's kernels have none. See also [`NO_POKES`] and [`NOT_DEBIANS`].
    pub elsewhere: &'static str,
}

/// How a fault is seeded in some cells.
#[derive(Debug, PartialEq, Eq)]
pub struct Seed {
    /// The CPUs.
    cpus: &'static [Cpu],
    /// Debian's kernels by version; empty for any kernel at all.
    kernels: &'static [&'static str],
    /// The changes that make it.
    pub changes: &'static [Change],
}

/// A change of the kernel's memory: what [`super::super::poke`] calls a poke.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub symbol: &'static str,
    pub within: u32,
    pub old: &'static str,
    pub new: &'static str,
}

/// Why a cell with Bochs has no faults.
pub const NO_POKES: &str = "Bochs' memory is not poked yet";

/// Why a kernel of the user's has only some of the faults.
const NOT_DEBIANS: &str = "the bytes to change are known for Debian's kernels alone";

/// Rules without a row, and why.
pub const WITHOUT: [(&str, &str); 2] = [
    ("EPT106", "judges kvm_intel alone, and so needs Bochs"),
    ("EPT107", "judges kvm_intel alone, and so needs Bochs"),
];

const fn change(symbol: &'static str, within: u32, old: &'static str, new: &'static str) -> Change {
    Change { symbol, within, old, new }
}

/// A variable of one byte, or the lowest byte of one.
const fn variable(symbol: &'static str, old: &'static str, new: &'static str) -> Change {
    change(symbol, 1, old, new)
}

const SVM: &[Cpu] = &[Cpu::Svm];
const SVM_LA48: &[Cpu] = &[Cpu::SvmLa48];
const ANY_SVM: &[Cpu] = &[Cpu::Svm, Cpu::SvmLa48];
/// The kernels with `tdp_root_level`.
const FORCING: &[&str] = &["6.1", "6.12", "7.2"];

/// All faults.
pub static FAULTS: &[Fault] = &[
    Fault {
        rule: "EPT101",
        what: "`cpuid_query_maxphyaddr` defaults to 37 bits",
        values: ["37", "36"],
        also: &[],
        seeds: &[Seed {
            cpus: ANY_SVM,
            kernels: &["5.10", "6.1", "6.12", "7.2"],
            changes: &[change("cpuid_query_maxphyaddr", 152, "24000000", "25000000")],
        }],
        elsewhere: "",
    },
    Fault {
        rule: "EPT103",
        what: "`kvm_init_mmu` takes the other level, whatever its inputs",
        values: ["4", "5"],
        also: &[],
        seeds: &[
            // The mask of the level's bits makes place for: push the level, pop %rcx.
            Seed {
                cpus: SVM,
                kernels: FORCING,
                changes: &[change(
                    "kvm_init_mmu",
                    1024,
                    "83f9050f84........83e10f",
                    "83f9050f84........6a0459",
                )],
            },
            Seed {
                cpus: SVM_LA48,
                kernels: FORCING,
                changes: &[change(
                    "kvm_init_mmu",
                    1024,
                    "83f9050f84........83e10f",
                    "83f9050f84........6a0559",
                )],
            },
            // The jump taken at a maximum of 5 makes place for: mov $5,%ecx; nop.
            Seed {
                cpus: ANY_SVM,
                kernels: &["5.10"],
                changes: &[change(
                    "kvm_init_mmu",
                    1024,
                    "83f9050f84........89ce",
                    "83f905b9050000009089ce",
                )],
            },
        ],
        elsewhere: "",
    },
    Fault {
        rule: "EPT104",
        what: "`max_tdp_level` is the other level",
        values: ["4", "5"],
        also: &[],
        seeds: &[
            Seed { cpus: SVM, kernels: FORCING, changes: &[variable("max_tdp_level", "05", "04")] },
            Seed {
                cpus: SVM_LA48,
                kernels: FORCING,
                changes: &[variable("max_tdp_level", "04", "05")],
            },
            // kvm_amd asks for 4 levels there, whatever the host has.
            Seed {
                cpus: ANY_SVM,
                kernels: &["5.10"],
                changes: &[variable("max_tdp_level", "04", "05")],
            },
        ],
        elsewhere: "",
    },
    Fault {
        rule: "EPT104",
        what: "`tdp_root_level` is the other level",
        values: ["4", "5"],
        also: &[],
        seeds: &[
            Seed {
                cpus: SVM,
                kernels: FORCING,
                changes: &[variable("tdp_root_level", "05", "04")],
            },
            Seed {
                cpus: SVM_LA48,
                kernels: FORCING,
                changes: &[variable("tdp_root_level", "04", "05")],
            },
        ],
        elsewhere: "no `tdp_root_level` before 5.15",
    },
    Fault {
        rule: "EPT105",
        what: "`tdp_enabled` is 0, `npt_enabled` 1",
        values: ["false", "true"],
        also: &[],
        seeds: &[Seed {
            cpus: ANY_SVM,
            kernels: &[],
            changes: &[variable("tdp_enabled", "01", "00")],
        }],
        elsewhere: "",
    },
    Fault {
        rule: "EPT105",
        what: "`npt_enabled` is 0, `tdp_enabled` 1",
        values: ["false", "true"],
        also: &[],
        seeds: &[Seed {
            cpus: ANY_SVM,
            kernels: &[],
            changes: &[variable("npt_enabled", "01", "00")],
        }],
        elsewhere: "",
    },
    Fault {
        rule: "EPT110",
        what: "`kvm_init_mmu` leaves out the direct bit",
        values: ["false", "true"],
        also: &[],
        seeds: &[
            Seed {
                cpus: ANY_SVM,
                kernels: &["6.1", "6.12"],
                changes: &[change("kvm_init_mmu", 1024, "88c80c80", "88c80c00")],
            },
            // direct_map, stored right after shadow_root_level.
            Seed {
                cpus: ANY_SVM,
                kernels: &["5.10"],
                changes: &[change(
                    "kvm_init_mmu",
                    1024,
                    "888b........c683........01",
                    "888b........c683........00",
                )],
            },
        ],
        elsewhere: "the kernel itself dies of it when the guest is entered, and takes the command \
                    with it",
    },
];

impl Fault {
    /// How it is seeded in `cell`, or why it is not.
    pub fn seed(&self, cell: &Cell) -> Result<&'static Seed, &'static str> {
        if matches!(cell.cpu, Cpu::Vmx | Cpu::Vmx5) {
            return Err(NO_POKES);
        }
        let why = match cell.kernel {
            KernelChoice::Debian(_) => self.elsewhere,
            KernelChoice::Image(..) => NOT_DEBIANS,
        };
        self.seeds.iter().find(|seed| seed.is_for(cell)).ok_or(why)
    }
}

impl Seed {
    fn is_for(&self, cell: &Cell) -> bool {
        let is_kernel = match &cell.kernel {
            _ if self.kernels.is_empty() => true,
            KernelChoice::Debian(debian) => self.kernels.contains(&debian.version),
            KernelChoice::Image(..) => false,
        };
        is_kernel && self.cpus.contains(&cell.cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::poke::Poke;

    #[test]
    fn every_change_can_be_made_and_taken_back() {
        for change in FAULTS.iter().flat_map(|fault| fault.seeds).flat_map(|seed| seed.changes) {
            let Change { within, old, new, .. } = change;
            for text in [format!("0 {within} {old} {new}"), format!("0 {within} {new} {old}")] {
                assert!(text.parse::<Poke>().is_ok(), "{text}");
            }
            assert_ne!(old, new);
        }
    }

    #[test]
    fn a_cell_without_a_seed_has_a_reason() {
        let kernels = KernelChoice::parse("all", None).unwrap_or_default();
        for cpu in Cpu::ALL {
            for kernel in kernels.iter().cloned() {
                let cell = Cell { cpu, kernel };
                for fault in FAULTS {
                    assert_ne!(fault.seed(&cell).err(), Some(""), "{} {cell}", fault.what);
                }
            }
        }
    }
}
