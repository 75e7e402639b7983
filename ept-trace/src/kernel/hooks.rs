//! Where each hook is: the one table that the plan, the programs and the output go by.

use ept_trace_common::abi::Hook;

/// What a hook is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The entry of a function.
    Entry(&'static str, &'static str),
    /// The return of a function, by module and symbol.
    Return(&'static str, &'static str),
    /// An instruction inside a function, which is looked for in the kernel's memory.
    Inside(&'static str, &'static str),
    /// A tracepoint, by system and name.
    Tracepoint(&'static str, &'static str),
}

/// The place of a hook.
pub fn place(hook: Hook) -> Place {
    use Place::{Entry, Inside, Return, Tracepoint};
    match hook {
        Hook::InitMmuEntry => Entry("kvm", "kvm_init_mmu"),
        Hook::InitMmuReturn => Return("kvm", "kvm_init_mmu"),
        Hook::InitTdpMmu => Entry("kvm", "init_kvm_tdp_mmu"),
        Hook::ConfigureMmu => Entry("kvm", "kvm_configure_mmu"),
        Hook::HardwareSetup => Entry("kvm_intel", "hardware_setup"),
        Hook::VmxHardwareSetup => Entry("kvm_intel", "vmx_hardware_setup"),
        Hook::SvmHardwareSetup => Entry("kvm_amd", "svm_hardware_setup"),
        Hook::IoctlEnter => Tracepoint("syscalls", "sys_enter_ioctl"),
        Hook::IoctlExit => Tracepoint("syscalls", "sys_exit_ioctl"),
        Hook::GetPage => Tracepoint("kvmmmu", "kvm_mmu_get_page"),
        Hook::DestroyVm => Entry("kvm", "kvm_arch_destroy_vm"),
        Hook::VmxLoadPgd => Entry("kvm_intel", "vmx_load_mmu_pgd"),
        Hook::EptpWrite => Inside("kvm_intel", "vmx_load_mmu_pgd"),
        Hook::SvmLoadPgd => Entry("kvm_amd", "svm_load_mmu_pgd"),
        Hook::ShadowEptEntry => Entry("kvm", "kvm_init_shadow_ept_mmu"),
        Hook::ShadowEptReturn => Return("kvm", "kvm_init_shadow_ept_mmu"),
        Hook::ShadowNptEntry => Entry("kvm", "kvm_init_shadow_npt_mmu"),
        Hook::ShadowNptReturn => Return("kvm", "kvm_init_shadow_npt_mmu"),
        Hook::PageFault => Entry("kvm", "kvm_mmu_page_fault"),
        Hook::TdpFaultReturn => Return("kvm", "kvm_tdp_page_fault"),
        Hook::SpteRequested => Tracepoint("kvmmmu", "kvm_mmu_spte_requested"),
        Hook::PageFaultReturn => Return("kvm", "kvm_mmu_page_fault"),
        Hook::InitVm => Entry("kvm", "kvm_arch_init_vm"),
        Hook::ChangedSpte => Entry("kvm", "handle_changed_spte"),
        Hook::ChangedSpteInner => Entry("kvm", "__handle_changed_spte"),
        Hook::SpteChanged => Tracepoint("kvmmmu", "kvm_tdp_mmu_spte_changed"),
        Hook::SpteSet => Tracepoint("kvmmmu", "kvm_mmu_set_spte"),
    }
}

/// The name of a hook in plans, summaries and events. No two hooks have the same.
pub fn hook_name(hook: Hook) -> String {
    match place(hook) {
        Place::Entry("kvm", symbol) | Place::Tracepoint(_, symbol) => symbol.to_owned(),
        Place::Entry(module, symbol) => format!("{module}:{symbol}"),
        Place::Return("kvm", symbol) => format!("{symbol} return"),
        Place::Return(module, symbol) => format!("{module}:{symbol} return"),
        Place::Inside(..) => "vmwrite EPT_POINTER".to_owned(),
    }
}

/// Two hooks that serve one purpose: what the first sees, the second makes a record of.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The call is remembered.
    pub entry: Hook,
    /// And the outcome read.
    pub outcome: Hook,
    /// Every call that is entered ends in the outcome, and soon.
    pub is_same_function: bool,
    /// What is not seen without it.
    pub sees: &'static str,
}

/// The pairs.
pub const PAIRS: [Pair; 6] = [
    Pair {
        entry: Hook::InitMmuEntry,
        outcome: Hook::InitMmuReturn,
        is_same_function: true,
        sees: "root-level decisions",
    },
    Pair {
        entry: Hook::VmxLoadPgd,
        outcome: Hook::EptpWrite,
        is_same_function: false,
        sees: "EPTPs",
    },
    Pair {
        entry: Hook::ShadowEptEntry,
        outcome: Hook::ShadowEptReturn,
        is_same_function: true,
        sees: "shadow EPT MMUs of nested guests",
    },
    Pair {
        entry: Hook::ShadowNptEntry,
        outcome: Hook::ShadowNptReturn,
        is_same_function: true,
        sees: "shadow NPT MMUs of nested guests",
    },
    Pair {
        entry: Hook::PageFault,
        outcome: Hook::TdpFaultReturn,
        is_same_function: false,
        sees: "faults that come back for ever",
    },
    Pair {
        entry: Hook::PageFault,
        outcome: Hook::PageFaultReturn,
        // One function, but a fault may sleep for as long as its page takes to come.
        is_same_function: false,
        sees: "EPT walks",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names: BTreeSet<_> = Hook::ALL.into_iter().map(hook_name).collect();
        assert_eq!(names.len(), Hook::ALL.len());
    }

    #[test]
    fn a_pair_of_one_function_is_one() {
        for pair in PAIRS.iter().filter(|pair| pair.is_same_function) {
            let (Place::Entry(module, symbol), Place::Return(of, same)) =
                (place(pair.entry), place(pair.outcome))
            else {
                panic!("{pair:?}");
            };
            assert_eq!((module, symbol), (of, same));
        }
    }
}
