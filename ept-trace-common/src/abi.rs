//! What crosses between the kernel side and userspace: records, configuration, counters.
//!
//! Every type is `repr(C)` without implicit padding, and its size is asserted below: the two
//! sides are built apart, and nothing here is kept in step by hand.

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
}

impl Hook {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 20] = [
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
    /// By [`Variable`].
    pub value: [u32; Variable::COUNT],
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

/// What is known of the modules that are loaded now: addresses, 0 where unknown, and what only
/// their own BTF tells.
///
/// In a map and not among the constants: a module that is loaded again has other addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// By [`Variable`].
    pub address: [u64; Variable::COUNT],
    /// What the variables were when the machine was read, and judged.
    pub judged: Inputs,
    /// The function `kvm_tdp_page_fault`, which the TDP MMU has for its `page_fault`.
    pub tdp_page_fault: u64,
    /// The variable `vmemmap_base`: where the array of `struct page` begins.
    pub vmemmap_base: u64,
    /// In `struct kvm_mmu_page`: `role`.
    pub page_role: Field,
    /// In `struct vcpu_vmx`, which begins with the vCPU: `nested.msrs.ept_caps`.
    pub ept_caps: Field,
    /// In `struct pt_regs` at the entry of `kvm_init_shadow_ept_mmu`: EPTP12.
    pub eptp12: Field,
    /// In `struct pt_regs` at the entry of `kvm_init_shadow_npt_mmu`: CR4 of L1.
    pub l1_cr4: Field,
    /// The same: EFER of L1.
    pub l1_efer: Field,
    /// In `struct pt_regs` where `vmx_load_mmu_pgd` writes EPT_POINTER: the EPTP.
    pub eptp: Field,
}

impl Variables {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        address: [0; Variable::COUNT],
        judged: Inputs { valid: 0, value: [0; Variable::COUNT] },
        tdp_page_fault: 0,
        vmemmap_base: 0,
        page_role: Field::ABSENT,
        ept_caps: Field::ABSENT,
        eptp12: Field::ABSENT,
        l1_cr4: Field::ABSENT,
        l1_efer: Field::ABSENT,
        eptp: Field::ABSENT,
    };
}

/// The root MMU (`vcpu->arch.root_mmu`) at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmuState {
    /// `root_role.word` (5.19 and later), else `mmu_role.as_u64`.
    pub role: u64,
    /// `cpu_role.as_u64` (5.19 and later), else 0.
    pub cpu_role: u64,
    /// `root_role.level`, else `shadow_root_level`.
    pub root_level: u32,
    /// `root_role.direct`, else `direct_map`.
    pub direct: u32,
    /// Of [`handler`]: what `page_fault` points to.
    pub handler: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// Which function serves the faults of an MMU, [`MmuState::handler`].
pub mod handler {
    /// The pointer could not be read, or the function's address is not known.
    pub const UNKNOWN: u32 = 0;
    /// `kvm_tdp_page_fault`: `init_kvm_tdp_mmu` set it up.
    pub const TDP: u32 = 1;
    /// Another one.
    pub const OTHER: u32 = 2;
}

/// Bits of `flags` in records about a vCPU.
pub mod flag {
    /// `vcpu->arch.mmu == &vcpu->arch.guest_mmu`: L2 runs on nested TDP.
    pub const NESTED: u32 = 1 << 0;
    /// `init_kvm_tdp_mmu` was seen to be called.
    pub const TDP_INIT_SEEN: u32 = 1 << 1;
    /// An entry 0x80000000 is among the vCPU's CPUID entries.
    pub const LEAF_80000000: u32 = 1 << 2;
    /// An entry 0x80000008 is among the vCPU's CPUID entries.
    pub const LEAF_80000008: u32 = 1 << 3;
    /// The CPUID entries were read to their end.
    pub const CPUID_READ: u32 = 1 << 4;
    /// `before` holds what was read at entry.
    pub const BEFORE_READ: u32 = 1 << 5;
    /// The decision, replayed in the kernel, is not plainly right.
    pub const SUSPECT: u32 = 1 << 6;
    /// The page of the root has no `kvm_mmu_page`: a dummy root.
    pub const DUMMY_ROOT: u32 = 1 << 7;
    /// `ad_disabled` of the MMU's role.
    pub const AD_DISABLED: u32 = 1 << 8;
}

/// Bits of `unread` in records about a vCPU: members that could not be read and are 0.
pub mod unread {
    /// `vm`.
    pub const VM: u32 = 1 << 0;
    /// `vcpu_id`.
    pub const VCPU_ID: u32 = 1 << 1;
    /// `maxphyaddr`.
    pub const MAXPHYADDR: u32 = 1 << 2;
    /// `cr4`.
    pub const CR4: u32 = 1 << 3;
    /// `efer`.
    pub const EFER: u32 = 1 << 4;
    /// `after.role`.
    pub const ROLE: u32 = 1 << 5;
    /// `after.cpu_role`.
    pub const CPU_ROLE: u32 = 1 << 6;
    /// `after.root_level`.
    pub const ROOT_LEVEL: u32 = 1 << 7;
    /// `after.direct`.
    pub const DIRECT: u32 = 1 << 8;
    /// `cpuid_nent`.
    pub const CPUID_NENT: u32 = 1 << 9;
    /// `creator`.
    pub const CREATOR: u32 = 1 << 10;
    /// `vm_type`.
    pub const VM_TYPE: u32 = 1 << 11;
    /// `root_hpa` of the MMU.
    pub const ROOT_HPA: u32 = 1 << 12;
    /// `page_role`.
    pub const PAGE_ROLE: u32 = 1 << 13;
    /// [`super::flag::AD_DISABLED`].
    pub const AD_DISABLED: u32 = 1 << 14;
    /// `ept_caps`.
    pub const EPT_CAPS: u32 = 1 << 15;
    /// What L1 asks for, of a [`super::ShadowRecord`].
    pub const L1: u32 = 1 << 16;
}

/// One decision: a vCPU, what went in, and the root level that came out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Kind [`kind::DECISION`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
    /// Address of `struct kvm_vcpu`.
    pub vcpu: u64,
    /// `kvm->userspace_pid`: the thread that created the VM.
    pub creator: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu_id: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: u32,
    /// Of [`flag`].
    pub flags: u32,
    /// `kvm->arch.vm_type`, 0 where the kernel has none.
    pub vm_type: u32,
    /// `vcpu->arch.cpuid_nent`.
    pub cpuid_nent: u32,
    /// EAX of leaf 0x80000000, if [`flag::LEAF_80000000`].
    pub leaf_80000000_eax: u32,
    /// EAX of leaf 0x80000008, if [`flag::LEAF_80000008`].
    pub leaf_80000008_eax: u32,
    /// `vcpu->arch.cr4`.
    pub cr4: u64,
    /// `vcpu->arch.efer`.
    pub efer: u64,
    /// The root MMU at entry, if [`flag::BEFORE_READ`].
    pub before: MmuState,
    /// The root MMU at return.
    pub after: MmuState,
    /// The kernel's variables.
    pub inputs: Inputs,
    /// Of [`unread`]: the members that could not be read and are 0 here.
    pub unread: u32,
}

/// Arguments of `kvm_configure_mmu`, as they stood in the registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigureRecord {
    /// Kind [`kind::CONFIGURE_MMU`].
    pub header: Header,
    /// The first four arguments; what each means depends on the kernel.
    pub args: [u64; 4],
}

/// `hardware_setup` was entered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupRecord {
    /// Kind [`kind::HARDWARE_SETUP`].
    pub header: Header,
}

/// A root page was taken into use while a vCPU was in KVM_RUN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootRecord {
    /// Kind [`kind::ROOT`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
    /// Address of `struct kvm_vcpu`.
    pub vcpu: u64,
    /// First gfn that the page maps.
    pub gfn: u64,
    /// `vcpu->vcpu_id`.
    pub vcpu_id: u32,
    /// `kvm->userspace_pid`.
    pub creator: u32,
    /// `kvm_mmu_page_role` of the page.
    pub role: u32,
    /// Root level stored in the vCPU's root MMU at that moment.
    pub root_level: u32,
}

/// A root was put in use: what the vendor module was handed, the MMU that it belongs to, and on
/// VMX the EPTP that came of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadRecord {
    /// Kind [`kind::LOAD`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
    /// Address of `struct kvm_vcpu`.
    pub vcpu: u64,
    /// What is written to the VMCS as EPT_POINTER; 0 on SVM.
    pub eptp: u64,
    /// `root_hpa`, argument of `*_load_mmu_pgd`, without its bits 11:0 (the PCID, on 5.10).
    pub root_hpa: u64,
    /// `root.hpa` (`root_hpa` before 5.18) of the MMU in use.
    pub mmu_root_hpa: u64,
    /// `root_role.word` of the MMU in use, else `mmu_role.as_u64`.
    pub role: u64,
    /// `kvm->userspace_pid`.
    pub creator: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu_id: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: u32,
    /// Of [`flag`].
    pub flags: u32,
    /// `root_level`, argument of `*_load_mmu_pgd`.
    pub level: u32,
    /// Root level of the MMU in use.
    pub mmu_level: u32,
    /// `kvm_mmu_page_role` of the page that `root_hpa` is.
    pub page_role: u32,
    /// Of [`unread`].
    pub unread: u32,
    /// The kernel's variables.
    pub inputs: Inputs,
}

/// The MMU for a nested guest (`arch.guest_mmu`) was set up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowRecord {
    /// Kind [`kind::SHADOW`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
    /// Address of `struct kvm_vcpu`.
    pub vcpu: u64,
    /// EPTP12; 0 for NPT.
    pub eptp12: u64,
    /// CR4 of L1, for NPT.
    pub cr4: u64,
    /// EFER of L1, for NPT.
    pub efer: u64,
    /// `root_role.word` of `guest_mmu`, else `mmu_role.as_u64`.
    pub role: u64,
    /// `kvm->userspace_pid`.
    pub creator: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu_id: u32,
    /// `vcpu->arch.maxphyaddr`, in bits.
    pub maxphyaddr: u32,
    /// Root level of `guest_mmu`.
    pub level: u32,
    /// Direct bit of `guest_mmu`.
    pub direct: u32,
    /// `vmx->nested.msrs.ept_caps`: the EPT capabilities that this L1 is shown.
    pub ept_caps: u32,
    /// Of [`unread`].
    pub unread: u32,
    /// The kernel's variables.
    pub inputs: Inputs,
}

/// The same fault of a vCPU again and again, with the same answer each time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultLoopRecord {
    /// Kind [`kind::FAULT_LOOP`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
    /// Address of `struct kvm_vcpu`.
    pub vcpu: u64,
    /// The guest-physical address.
    pub gpa: u64,
    /// `PFERR_*` bits, as `kvm_mmu_page_fault` was called with.
    pub error_code: u64,
    /// From the first of these faults to this one, in nanoseconds.
    pub for_ns: u64,
    /// How many.
    pub count: u32,
    /// Return of `kvm_tdp_page_fault`: a `RET_PF_*`.
    pub answer: u32,
    /// `kvm->userspace_pid`.
    pub creator: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu_id: u32,
    /// Root level of the MMU in use.
    pub mmu_level: u32,
    /// Of [`unread`].
    pub unread: u32,
}

/// A `struct kvm` was created, or is about to go: what its address meant before is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmRecord {
    /// Kind [`kind::VM`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
}

/// A member: its place from the start of its structure, as BTF tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// In bytes; [`ABSENT`] where the kernel has no such member.
    pub offset: u32,
    /// Bytes to read: 1, 2, 4 or 8.
    pub size: u8,
    /// First bit in what was read.
    pub shift: u8,
    /// Width in bits; 0 for all of it.
    pub width: u8,
    /// Explicit padding.
    pub reserved: u8,
}

impl Field {
    /// A member that is not there.
    pub const ABSENT: Self = Self { offset: ABSENT, size: 0, shift: 0, width: 0, reserved: 0 };
}

/// The constants handed to the kernel side when it is loaded: offsets from BTF, and filters.
///
/// The verifier knows their values, so a branch that this kernel does not need costs nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The pid namespace that `filter_tgid` is a number of: device of its file in nsfs.
    pub pidns_dev: u64,
    /// And inode.
    pub pidns_ino: u64,
    /// Only this process counts; 0 for all.
    pub filter_tgid: u32,
    /// 1: `arch.cpuid_entries` is an array in the vCPU and not a pointer to one (before 5.10).
    pub cpuid_embedded: u32,
    /// 1: what is plainly right is dropped in the kernel, and counted as filtered.
    pub drop_right: u32,
    /// Size of `struct page`, in bytes; [`ABSENT`] if not known.
    pub struct_page_size: u32,
    /// Members of `kvm_vcpu` and `kvm`.
    pub fields: Fields,
    /// The way from a file descriptor to a vCPU.
    pub files: FileFields,
    /// Places in the records of the tracepoints.
    pub tracepoints: TracepointFields,
}

impl Config {
    /// Whether programs loaded with one read the right members under the other.
    pub fn same_structures(&self, other: &Self) -> bool {
        self.fields == other.fields
            && self.cpuid_embedded == other.cpuid_embedded
            && self.struct_page_size == other.struct_page_size
            && self.files == other.files
    }
}

/// Members of `struct kvm_vcpu`, from its start unless said otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `kvm`: pointer to the VM.
    pub kvm: Field,
    /// `vcpu_id`.
    pub vcpu_id: Field,
    /// `arch.maxphyaddr`.
    pub maxphyaddr: Field,
    /// `arch.cr4`.
    pub cr4: Field,
    /// `arch.efer`.
    pub efer: Field,
    /// `arch.mmu`: pointer to the MMU in use.
    pub mmu: Field,
    /// `arch.guest_mmu`: where it starts.
    pub guest_mmu: Field,
    /// `arch.root_mmu`: its role.
    pub role: Field,
    /// `arch.root_mmu`: its `cpu_role`.
    pub cpu_role: Field,
    /// `arch.root_mmu`: its root level.
    pub root_level: Field,
    /// `arch.root_mmu`: its direct bit.
    pub direct: Field,
    /// `arch.cpuid_nent`.
    pub cpuid_nent: Field,
    /// `arch.cpuid_entries`: pointer to the entries, or the entries.
    pub cpuid_entries: Field,
    /// In `struct kvm`: `userspace_pid`.
    pub userspace_pid: Field,
    /// In `struct kvm`: `arch.vm_type`.
    pub vm_type: Field,
    /// `arch.root_mmu`: where it starts. Every MMU of the vCPU has its members at the same places.
    pub root_mmu: Field,
    /// `arch.root_mmu`: its `root.hpa`.
    pub root_hpa: Field,
    /// `arch.root_mmu`: its `page_fault`.
    pub page_fault: Field,
    /// `arch.root_mmu`: `ad_disabled` of its role.
    pub ad_disabled: Field,
    /// In `struct page`: `private`.
    pub page_private: Field,
}

/// From `current` and a file descriptor to the file's private data.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFields {
    /// `task_struct.files`.
    pub files: Field,
    /// `files_struct.fdt`.
    pub fdt: Field,
    /// `fdtable.max_fds`.
    pub max_fds: Field,
    /// `fdtable.fd`.
    pub fd: Field,
    /// `file.private_data`.
    pub private_data: Field,
    /// `file.f_path.dentry`.
    pub dentry: Field,
    /// `dentry.d_name.name`.
    pub name: Field,
    /// `dentry.d_sb`.
    pub superblock: Field,
    /// `super_block.s_magic`.
    pub magic: Field,
}

/// Places in the raw records of tracepoints, from their `format` files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracepointFields {
    /// `sys_enter_ioctl`: `fd`.
    pub ioctl_fd: Field,
    /// `sys_enter_ioctl`: `cmd`.
    pub ioctl_cmd: Field,
    /// `sys_exit_ioctl`: `ret`.
    pub ioctl_ret: Field,
    /// `kvm_mmu_get_page`: `gfn`.
    pub page_gfn: Field,
    /// `kvm_mmu_get_page`: `role`.
    pub page_role: Field,
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
    Variables = 152,
    DecisionRecord = 192,
    ConfigureRecord = 56,
    SetupRecord = 24,
    RootRecord = 64,
    VmRecord = 32,
    LoadRecord = 136,
    ShadowRecord = 136,
    FaultLoopRecord = 88,
    Config = 304,
}
