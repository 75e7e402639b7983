//! The faults, as data: a row each.
//!
//! Bytes of code are those of Debian's kernels, as their compilers made them. A fault whose bytes
//! are not there is refused when it is to be seeded, and so is told.

mod level;
mod nested;
mod pointer;
mod walk;

use super::fault::Fault;
use crate::lab::Cpu;

/// Rules without a row, and why.
pub const WITHOUT: [(&str, &str); 3] =
    [("EPT402", IN_A_STREAM), ("EPT403", IN_A_STREAM), ("EPT404", IN_A_STREAM)];
const IN_A_STREAM: &str = "seeded in a stream that was recorded in the lab, where a record is changed, \
                           missing, or out of order: `tests/tests/history.rs`";

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

/// MSR 0x48c of Bochs' two CPUs.
const VMX_CAPABILITY: &str = "0xf0106734141";
const VMX5_CAPABILITY: &str = "0xf01067341c1";
const NO_CAPABILITY: &str = "NPT has no capability register";

/// All faults.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    [level::FAULTS, pointer::FAULTS, walk::FAULTS, nested::FAULTS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Change, How};
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
        for seed in all().flat_map(|fault| fault.seeds) {
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
            for fault in all() {
                assert_ne!(fault.seed(&cell).err(), Some(""), "{} {cell}", fault.what);
            }
        }
    }

    #[test]
    fn a_fault_has_two_values_wherever_it_is_seeded() {
        for cell in cells() {
            for fault in all() {
                let values = fault.seed(&cell).map_or(["-"; 2], |seed| fault.values(seed));
                assert!(!values.contains(&""), "{} {cell}", fault.what);
            }
        }
    }

    #[test]
    fn a_guest_whose_entries_are_changed_touches_them_again() {
        for fault in all() {
            let are_entries = fault.seeds.iter().any(|seed| matches!(seed.how, How::Entries(_)));
            assert_eq!(are_entries, fault.check.contains("--again"), "{}", fault.what);
        }
    }

    #[test]
    fn a_changed_module_is_loaded() {
        for fault in all() {
            let is_module = fault.seeds.iter().any(|seed| matches!(seed.how, How::Module(..)));
            assert!(!is_module || fault.check.contains("--reload"), "{}", fault.what);
        }
    }
}
