//! Observations. They carry no verdict: a better oracle can judge an old file again.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fact, KernelFacts, SpteChange, Walk};

/// Something that was observed, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// `CLOCK_MONOTONIC` of the observed machine, in nanoseconds.
    pub time_ns: u64,
    /// What it was.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The hooks were set: which are attached and which not, and what cannot be seen for it.
    Hooks {
        /// Every hook that there is.
        hooks: Vec<HookStatus>,
        /// What cannot be seen.
        not_seen: Vec<String>,
    },
    /// The state of the machine was read: at the start, and after a module was loaded.
    Facts(Box<KernelFacts>),
    /// A root level was chosen.
    Decision(Box<Decision>),
    /// `kvm_configure_mmu` was called.
    ConfigureMmu(ConfigureMmu),
    /// The vendor module's `hardware_setup` was entered.
    HardwareSetup {
        /// The module and its function, such as `kvm_intel:vmx_hardware_setup`.
        function: String,
    },
    /// A root page was taken into use.
    Root(Root),
    /// A root was handed to the hardware.
    Load(Box<Load>),
    /// The MMU for a nested guest was set up.
    ShadowMmu(Box<ShadowMmu>),
    /// A fault comes back although it was answered.
    FaultLoop(FaultLoop),
    /// A fault was handled, and the entries for its address were read.
    Walk(Box<Walk>),
    /// An entry was changed.
    SpteChange(SpteChange),
    /// A VMCS that the kernel has printed, `dump_vmcs`.
    VmcsDump(VmcsDump),
    /// KVM, or the program that uses it, has complained by itself.
    Complaint {
        /// Whose words they are: `kvm`, `kernel`, `qemu`.
        by: String,
        /// The words, as they were printed.
        text: String,
    },
    /// A VM is gone.
    VmGone {
        /// Its number.
        vm: u32,
    },
    /// Records were lost.
    Loss {
        /// The hook that lost them.
        hook: String,
        /// How many, since the last such event.
        records: u64,
    },
    /// The end: nothing was cut off.
    End,
    /// For some time nothing could be observed.
    Gap {
        /// Why.
        reason: String,
    },
}

impl EventKind {
    /// Whether it is about a guest, and so rests on the vendor module that was loaded then.
    pub fn is_about_a_guest(&self) -> bool {
        matches!(self, Self::SpteChange(_)) || self.vm().is_some()
    }

    /// Number of the VM that it is about.
    ///
    /// A log may tell of a VM without telling which: its number is 0 there, which is none.
    pub fn vm(&self) -> Option<u32> {
        let vm = match self {
            Self::Decision(decision) => Some(decision.vm),
            Self::Root(root) => Some(root.vm),
            Self::Load(load) => Some(load.vm),
            Self::ShadowMmu(mmu) => Some(mmu.vm),
            Self::FaultLoop(faults) => Some(faults.vm),
            Self::Walk(walk) => Some(walk.vm),
            Self::SpteChange(change) => change.vm,
            Self::VmGone { vm } => Some(*vm),
            _ => None,
        };
        vm.filter(|vm| *vm != 0)
    }

    /// `vcpu_id` of the vCPU that it is about.
    pub fn vcpu(&self) -> Option<u32> {
        match self {
            Self::Decision(decision) => Some(decision.vcpu),
            Self::Root(root) => Some(root.vcpu),
            Self::Load(load) => Some(load.vcpu),
            Self::ShadowMmu(mmu) => Some(mmu.vcpu),
            Self::FaultLoop(faults) => Some(faults.vcpu),
            Self::Walk(walk) => Some(walk.vcpu),
            _ => None,
        }
    }
}

/// Which of the three ways `kvm_init_mmu` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `init_kvm_nested_mmu`: L2 on nested TDP; the root MMU is not touched.
    Nested,
    /// `init_kvm_tdp_mmu`.
    Tdp,
    /// `init_kvm_softmmu`: shadow paging.
    Soft,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nested => "nested",
            Self::Tdp => "tdp",
            Self::Soft => "soft",
        })
    }
}

/// One decision: what went in, and the root level that came out.
///
/// `None` is "could not be read"; a value is what the kernel held at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Decision {
    /// The hook that captured it.
    pub observed_by: String,
    /// Number of the VM, counted from 1 in the order in which they were first seen.
    pub vm: u32,
    /// `kvm->userspace_pid`: the thread that created the VM.
    pub pid: u32,
    /// The process that was running.
    pub tgid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: Option<u32>,
    /// The vCPU's CPUID.
    pub cpuid: Option<CpuidLeaves>,
    /// L2 runs on nested TDP.
    pub nested: bool,
    /// `init_kvm_tdp_mmu` was seen to be called; it is inlined on most kernels.
    pub tdp_init_seen: bool,
    /// `kvm->arch.vm_type`, where the kernel has it.
    pub vm_type: Option<u32>,
    /// `vcpu->arch.cr4`.
    pub cr4: Option<u64>,
    /// `vcpu->arch.efer`.
    pub efer: Option<u64>,
    /// The root MMU at entry.
    pub before: Option<MmuState>,
    /// The root MMU at return.
    pub after: MmuState,
    /// KVM's own variables at that moment.
    pub inputs: Inputs,
}

/// The two leaves that MAXPHYADDR comes from, as KVM stores them for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuidLeaves {
    /// Number of entries that the vCPU has.
    pub entries: u32,
    /// EAX of leaf 0x80000000, if there is one.
    pub max_leaf: Option<u32>,
    /// EAX of leaf 0x80000008, if there is one.
    pub address_sizes: Option<u32>,
}

/// The root MMU at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MmuState {
    /// `root_role.word`, or `mmu_role.as_u64` before 5.19.
    pub role: u64,
    /// `cpu_role.as_u64`, 0 before 5.19.
    pub cpu_role: u64,
    /// The root level.
    pub root_level: Option<u8>,
    /// The direct bit.
    pub direct: Option<bool>,
    /// What serves its faults; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_fault: Option<PageFaultHandler>,
}

/// What `page_fault` of an MMU points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageFaultHandler {
    /// `kvm_tdp_page_fault`, which `init_kvm_tdp_mmu` alone sets.
    Tdp,
    /// Another function.
    Other,
}

impl fmt::Display for PageFaultHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdp => "kvm_tdp_page_fault",
            Self::Other => "not kvm_tdp_page_fault",
        })
    }
}

/// KVM's own variables, as far as they could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Inputs {
    /// `tdp_enabled`.
    pub tdp_enabled: Option<bool>,
    /// `max_tdp_level`.
    pub max_tdp_level: Option<u8>,
    /// `tdp_root_level`.
    pub tdp_root_level: Option<u8>,
    /// `enable_ept`.
    pub enable_ept: Option<bool>,
    /// `vmx_capability.ept`.
    pub vmx_capability_ept: Option<u32>,
    /// `npt_enabled`.
    pub npt_enabled: Option<bool>,
    /// `enable_ept_ad_bits`.
    pub enable_ept_ad_bits: Option<bool>,
}

/// The arguments of `kvm_configure_mmu`, in their meaning on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigureMmu {
    /// `enable_tdp`.
    pub enable_tdp: bool,
    /// `tdp_forced_root_level`, where the kernel has it.
    pub forced_root_level: Option<u8>,
    /// `tdp_max_root_level`, where the kernel has it.
    pub max_root_level: Option<u8>,
    /// `tdp_huge_page_level`, where the kernel has it.
    pub huge_page_level: Option<u8>,
}

/// A root page that was taken into use: seen in the kernel while a vCPU was in KVM_RUN, or told by a
/// log, which knows less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Root {
    /// Number of the VM.
    pub vm: u32,
    /// `kvm->userspace_pid`; in a log, the thread.
    pub pid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// First gfn that the page maps.
    pub gfn: u64,
    /// `kvm_mmu_page_role` of the page; its lowest four bits are the level.
    pub role: Option<u32>,
    /// What of the role a text tells that does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<ToldRole>,
    /// Root level stored in the vCPU's root MMU at that moment; a log does not tell it.
    pub root_level: Option<u8>,
    /// MAXPHYADDR that the guest has, in bits, where it must come from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxphyaddr: Option<Fact<u8>>,
}

/// What the text of `kvm_mmu_get_page` tells of a page's role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldRole {
    /// The level.
    pub level: u8,
    /// Its `direct` bit.
    pub direct: bool,
}

impl Root {
    /// Level of the page.
    pub fn level(&self) -> u8 {
        match (self.role, self.told) {
            (Some(role), _) => (role & 0xf) as u8,
            (None, Some(told)) => told.level,
            (None, None) => 0,
        }
    }
}

/// A root handed to the hardware: by `vmx_load_mmu_pgd` as an EPTP, by `svm_load_mmu_pgd` as nCR3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Load {
    /// The hook that captured it.
    pub observed_by: String,
    /// Number of the VM.
    pub vm: u32,
    /// `kvm->userspace_pid`.
    pub pid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: Option<u32>,
    /// The MMU in use is `guest_mmu`: L2 runs on it.
    pub nested: bool,
    /// What was written to the VMCS as EPT_POINTER; none on SVM.
    pub eptp: Option<u64>,
    /// `root_hpa`, the argument.
    pub root_hpa: u64,
    /// `root_level`, the argument.
    pub level: u8,
    /// `root.hpa` of the MMU in use.
    pub mmu_root_hpa: Option<u64>,
    /// Root level of the MMU in use.
    pub mmu_level: Option<u8>,
    /// `ad_disabled` of its role.
    pub ad_disabled: Option<bool>,
    /// `kvm_mmu_page_role` of the page that the root is.
    pub page_role: Option<u32>,
    /// The page is no `kvm_mmu_page`: a dummy root, or one of shadow paging.
    pub is_dummy: bool,
    /// KVM's own variables at that moment.
    pub inputs: Inputs,
}

impl Load {
    /// Whether it is a root of TDP; with shadow paging, its level is that of the guest's own mode.
    pub fn is_tdp(&self) -> bool {
        self.eptp.is_some() || self.inputs.tdp_enabled == Some(true)
    }

    /// Whether L2 runs on it although it is not of `guest_mmu`: L1 gives L2 no tables of its own.
    pub fn is_of_l2(&self) -> bool {
        const GUEST_MODE: u32 = 1 << 17;
        self.page_role.is_some_and(|role| role & GUEST_MODE != 0)
    }

    /// Level of the page that the root is, by its own role.
    pub fn page_level(&self) -> Option<u8> {
        self.page_role.map(|role| (role & 0xf) as u8)
    }
}

/// Whose tables an MMU for a nested guest shadows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nested {
    /// EPT of L1.
    Ept {
        /// EPTP12, as the argument had it; `None` where which argument it is is not known.
        eptp12: Option<u64>,
        /// `nested.msrs.ept_caps`: what of EPT this L1 is shown.
        shown: Option<u32>,
    },
    /// NPT of L1.
    Npt {
        /// CR4 and EFER of L1; `None` where which arguments they are is not known.
        l1: Option<(u64, u64)>,
    },
}

/// `guest_mmu` after `kvm_init_shadow_ept_mmu` or `kvm_init_shadow_npt_mmu`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowMmu {
    /// The hook that captured it.
    pub observed_by: String,
    /// Number of the VM.
    pub vm: u32,
    /// `kvm->userspace_pid`.
    pub pid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: Option<u32>,
    /// What L1 asks for.
    pub nested: Nested,
    /// Root level of the MMU.
    pub level: Option<u8>,
    /// The level that L1's table is walked from, as KVM has it.
    #[serde(default)]
    pub walk_level: Option<u8>,
    /// Its direct bit.
    pub direct: Option<bool>,
    /// `root_role.word`, or `mmu_role.as_u64` before 5.19.
    pub role: Option<u64>,
    /// KVM's own variables at that moment.
    pub inputs: Inputs,
}

/// The same fault, in a row, with the same answer each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultLoop {
    /// Number of the VM.
    pub vm: u32,
    /// `kvm->userspace_pid`.
    pub pid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// The guest-physical address.
    pub gpa: u64,
    /// `PFERR_*` bits.
    pub error_code: u64,
    /// What `kvm_tdp_page_fault` answered: a `RET_PF_*`.
    pub answer: u32,
    /// How many faults.
    pub count: u32,
    /// From the first to the last, in nanoseconds.
    pub for_ns: u64,
    /// Root level of the MMU in use.
    pub mmu_level: Option<u8>,
}

/// What of a VMCS the kernel has printed matters here: after a VM entry that failed, or an exit that
/// nobody expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VmcsDump {
    /// Address of the VMCS, if it was printed.
    pub vmcs: Option<u64>,
    /// EPT_POINTER; printed only with EPT on.
    pub eptp: Option<u64>,
    /// The basic exit reason with its flags; bit 31 is a failed entry.
    pub exit_reason: Option<u32>,
    /// The exit qualification.
    pub exit_qualification: Option<u64>,
    /// The guest-physical address of an exit for EPT.
    pub gpa: Option<u64>,
}

/// A hook as it was planned: attached, or not and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookStatus {
    /// The hook.
    pub hook: String,
    /// Whether it is attached.
    pub attached: bool,
    /// How, or why not.
    pub how: String,
}
