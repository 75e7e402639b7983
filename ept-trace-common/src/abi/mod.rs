//! What crosses between the kernel side and userspace: records, configuration, counters.
//!
//! Every type is `repr(C)` without implicit padding, and its size is asserted below: the two
//! sides are built apart, and nothing here is kept in step by hand.

mod config;
mod records;

pub use config::{
    Config, Field, Fields, FileFields, KvmTracepoints, RaceFields, TracepointFields, Variables,
};
pub use records::{
    ConfigureRecord, DecisionRecord, FaultLoopRecord, LEVELS, LoadRecord, MmuState, RootRecord,
    SetupRecord, ShadowRecord, SpteRecord, Subject, VmRecord, WalkRecord, flag, handler, unread,
};

/// Marks a member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A type that any bit pattern of its size is a valid value of, and that has no padding.
///
/// # Safety
///
/// `repr(C)`, integers only, no implicit padding.
pub unsafe trait Plain: Copy + 'static {}

/// A hook: one attachment of one program. Indexes [`Counters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Entry of `kvm_init_mmu`.
    InitMmuEntry = 0,
    /// Return of `kvm_init_mmu`: the decision is taken.
    InitMmuReturn = 1,
    /// Entry of `init_kvm_tdp_mmu`, where the compiler has not inlined it.
    InitTdpMmu = 2,
    /// `kvm_configure_mmu`, called by the vendor module's `hardware_setup`.
    ConfigureMmu = 3,
    /// `hardware_setup` of `kvm_intel` up to 6.8.
    HardwareSetup = 4,
    /// `vmx_hardware_setup` of `kvm_intel` from 6.10.
    VmxHardwareSetup = 5,
    /// `svm_hardware_setup` of `kvm_amd`.
    SvmHardwareSetup = 6,
    /// Tracepoint `syscalls:sys_enter_ioctl`.
    IoctlEnter = 7,
    /// Tracepoint `syscalls:sys_exit_ioctl`.
    IoctlExit = 8,
    /// Tracepoint `kvmmmu:kvm_mmu_get_page`.
    GetPage = 9,
    /// `kvm_arch_destroy_vm`.
    DestroyVm = 10,
    /// Entry of `vmx_load_mmu_pgd`: a root is put in use.
    VmxLoadPgd = 11,
    /// The write of the VMCS field EPT_POINTER inside `vmx_load_mmu_pgd`.
    EptpWrite = 12,
    /// Entry of `svm_load_mmu_pgd`.
    SvmLoadPgd = 13,
    /// Entry of `kvm_init_shadow_ept_mmu`.
    ShadowEptEntry = 14,
    /// Return of `kvm_init_shadow_ept_mmu`: the MMU for L1's EPT is set up.
    ShadowEptReturn = 15,
    /// Entry of `kvm_init_shadow_npt_mmu`.
    ShadowNptEntry = 16,
    /// Return of `kvm_init_shadow_npt_mmu`: the MMU for L1's NPT is set up.
    ShadowNptReturn = 17,
    /// Entry of `kvm_mmu_page_fault`.
    PageFault = 18,
    /// Return of `kvm_tdp_page_fault`: what was done about a fault.
    TdpFaultReturn = 19,
    /// Tracepoint `kvmmmu:kvm_mmu_spte_requested`: what a fault resolved to.
    SpteRequested = 20,
    /// Return of `kvm_mmu_page_fault`: the fault is handled, and the entries are read.
    PageFaultReturn = 21,
    /// Entry of `kvm_arch_init_vm`: a VM begins.
    InitVm = 22,
    /// Entry of `handle_changed_spte`: whose entry changes.
    ChangedSpte = 23,
    /// Entry of `__handle_changed_spte`, as it is called where there are two.
    ChangedSpteInner = 24,
    /// Tracepoint `kvmmmu:kvm_tdp_mmu_spte_changed`.
    SpteChanged = 25,
    /// Tracepoint `kvmmmu:kvm_mmu_set_spte`: the MMU that is not the TDP MMU has set an entry.
    SpteSet = 26,
}

impl Hook {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 27] = [
        Self::InitMmuEntry,
        Self::InitMmuReturn,
        Self::InitTdpMmu,
        Self::ConfigureMmu,
        Self::HardwareSetup,
        Self::VmxHardwareSetup,
        Self::SvmHardwareSetup,
        Self::IoctlEnter,
        Self::IoctlExit,
        Self::GetPage,
        Self::DestroyVm,
        Self::VmxLoadPgd,
        Self::EptpWrite,
        Self::SvmLoadPgd,
        Self::ShadowEptEntry,
        Self::ShadowEptReturn,
        Self::ShadowNptEntry,
        Self::ShadowNptReturn,
        Self::PageFault,
        Self::TdpFaultReturn,
        Self::SpteRequested,
        Self::PageFaultReturn,
        Self::InitVm,
        Self::ChangedSpte,
        Self::ChangedSpteInner,
        Self::SpteChanged,
        Self::SpteSet,
    ];

    /// The hook with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

/// What became of a hook's calls, counted by the kernel side; one for each hook and CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of the program.
    pub fired: u64,
    /// Records handed to userspace, or state handed to the hook's other half.
    pub delivered: u64,
    /// Calls that a filter, or the hook's own purpose, leaves out.
    pub filtered: u64,
    /// Records lost: no room in the ring or in a table, or kernel memory that could not be read.
    pub dropped: u64,
}

/// What a record is; the first word of each.
pub mod kind {
    /// A [`super::DecisionRecord`].
    pub const DECISION: u32 = 1;
    /// A [`super::ConfigureRecord`].
    pub const CONFIGURE_MMU: u32 = 2;
    /// A [`super::SetupRecord`].
    pub const HARDWARE_SETUP: u32 = 3;
    /// A [`super::RootRecord`].
    pub const ROOT: u32 = 4;
    /// A [`super::VmRecord`].
    pub const VM: u32 = 5;
    /// A [`super::LoadRecord`].
    pub const LOAD: u32 = 6;
    /// A [`super::ShadowRecord`].
    pub const SHADOW: u32 = 7;
    /// A [`super::FaultLoopRecord`].
    pub const FAULT_LOOP: u32 = 8;
    /// A [`super::WalkRecord`].
    pub const WALK: u32 = 9;
    /// A [`super::SpteRecord`].
    pub const SPTE: u32 = 10;
}

/// The head of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The [`Hook`] that made the record.
    pub hook: u32,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Process (thread group) that was running.
    pub tgid: u32,
    /// Thread that was running.
    pub tid: u32,
}

/// The kernel's own inputs of the decision, read when the decision was captured.
///
/// A bit of `valid` tells whether the variable of that index could be read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Bit n: `value[n]` was read.
    pub valid: u32,
    /// By [`Variable`]; 0 where it was not.
    pub value: [u32; Variable::COUNT],
}

impl Inputs {
    /// All of them in one number: equal if and only if they are.
    pub fn packed(&self) -> u64 {
        let value = |variable: Variable| u64::from(self.value[variable as usize]);
        let bit = |variable| u64::from(value(variable) != 0);
        value(Variable::VmxCapabilityEpt)
            | (value(Variable::MaxTdpLevel) & 0xff) << 32
            | (value(Variable::TdpRootLevel) & 0xff) << 40
            | bit(Variable::TdpEnabled) << 48
            | bit(Variable::EnableEpt) << 49
            | bit(Variable::NptEnabled) << 50
            | bit(Variable::EnableEptAdBits) << 51
            | u64::from(self.valid) << 52
    }
}

/// A variable of KVM that the decision depends on. Indexes [`Inputs`] and [`Variables`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// `tdp_enabled` in kvm, bool.
    TdpEnabled = 0,
    /// `max_tdp_level` in kvm, int, since 5.9.
    MaxTdpLevel = 1,
    /// `tdp_root_level` in kvm, int, since 5.15: the forced level, 0 for none.
    TdpRootLevel = 2,
    /// `enable_ept` in `kvm_intel`, bool.
    EnableEpt = 3,
    /// `vmx_capability.ept` in `kvm_intel`: the low word of MSR 0x48c as KVM keeps it.
    VmxCapabilityEpt = 4,
    /// `npt_enabled` in `kvm_amd`, bool.
    NptEnabled = 5,
    /// `enable_ept_ad_bits` in `kvm_intel`, bool.
    EnableEptAdBits = 6,
}

impl Variable {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TdpEnabled,
        Self::MaxTdpLevel,
        Self::TdpRootLevel,
        Self::EnableEpt,
        Self::VmxCapabilityEpt,
        Self::NptEnabled,
        Self::EnableEptAdBits,
    ];

    /// Size in memory, in bytes: these are C `bool`, `int` and `u32`.
    pub const fn size(self) -> usize {
        match self {
            Self::TdpEnabled | Self::EnableEpt | Self::NptEnabled | Self::EnableEptAdBits => 1,
            Self::MaxTdpLevel | Self::TdpRootLevel | Self::VmxCapabilityEpt => 4,
        }
    }
}

macro_rules! plain {
    ($($type:ty = $size:literal),* $(,)?) => {$(
        // SAFETY: repr(C), integers only; the size asserted is the sum of the members' sizes.
        unsafe impl Plain for $type {}
        const _: () = assert!(size_of::<$type>() == $size);
    )*};
}

plain! {
    Header = 24,
    Counters = 32,
    Variables = 272,
    DecisionRecord = 192,
    ConfigureRecord = 56,
    SetupRecord = 24,
    RootRecord = 72,
    VmRecord = 32,
    LoadRecord = 136,
    ShadowRecord = 136,
    Subject = 32,
    FaultLoopRecord = 96,
    Config = 432,
    SpteRecord = 72,
    WalkRecord = 248,
}
