//! What the kernel side hands to userspace.

use super::{Header, Inputs};

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
    /// The page of the root has no `kvm_mmu_page`: a dummy root.
    pub const DUMMY_ROOT: u32 = 1 << 6;
    /// `ad_disabled` of the MMU's role.
    pub const AD_DISABLED: u32 = 1 << 7;
    /// `kvm_tdp_page_fault` returned.
    pub const ANSWERED: u32 = 1 << 8;
    /// Tracepoint `kvm_mmu_spte_requested` fired.
    pub const REQUESTED: u32 = 1 << 9;
    /// The host took pages away between the beginning of the fault and the end of the walk, or was
    /// about to: `mmu_invalidate_seq` has changed, or `mmu_invalidate_in_progress` is not 0.
    pub const RACED_NOTIFIER: u32 = 1 << 10;
    /// The memslots were changed meanwhile, or somebody was at work on them.
    pub const RACED_SLOTS: u32 = 1 << 11;
    /// The entries were others when they were read again.
    pub const RACED_ENTRIES: u32 = 1 << 12;
    /// The MMU has another root than when the fault began, or none.
    pub const RACED_ROOT: u32 = 1 << 13;
    /// Not every walk is reported: of some that are not, what they resolved to is not known.
    pub const SAMPLED: u32 = 1 << 14;
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
    /// `walk_level`.
    pub const WALK_LEVEL: u32 = 1 << 17;
    /// `mmu_invalidate_seq` or `mmu_invalidate_in_progress`: a race is not seen.
    pub const NOTIFIER: u32 = 1 << 18;
    /// Generation of the memslots: a race is not seen.
    pub const SLOTS: u32 = 1 << 19;
    /// `slot_flags`.
    pub const SLOT: u32 = 1 << 20;
    /// An entry: what follows it is not read either.
    pub const ENTRIES: u32 = 1 << 21;
    /// `noncoherent_dma`.
    pub const NONCOHERENT_DMA: u32 = 1 << 22;
    /// `mmio_value`.
    pub const MMIO_VALUE: u32 = 1 << 23;
}

/// The vCPU that a record is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
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
    /// Of [`unread`]: the members of the record that could not be read and are 0 there.
    pub unread: u32,
}

/// One decision: a vCPU, what went in, and the root level that came out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Kind [`super::kind::DECISION`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
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
    /// Explicit padding.
    pub reserved: u32,
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
}

/// Arguments of `kvm_configure_mmu`, as they stood in the registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigureRecord {
    /// Kind [`super::kind::CONFIGURE_MMU`].
    pub header: Header,
    /// The first four arguments; what each means depends on the kernel.
    pub args: [u64; 4],
}

/// `hardware_setup` was entered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupRecord {
    /// Kind [`super::kind::HARDWARE_SETUP`].
    pub header: Header,
}

/// A root page was taken into use while a vCPU was in KVM_RUN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootRecord {
    /// Kind [`super::kind::ROOT`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
    /// First gfn that the page maps.
    pub gfn: u64,
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
    /// Kind [`super::kind::LOAD`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
    /// What is written to the VMCS as EPT_POINTER; 0 on SVM.
    pub eptp: u64,
    /// `root_hpa`, argument of `*_load_mmu_pgd`, without its bits 11:0 (the PCID, on 5.10).
    pub root_hpa: u64,
    /// `root.hpa` (`root_hpa` before 5.18) of the MMU in use.
    pub mmu_root_hpa: u64,
    /// `root_role.word` of the MMU in use, else `mmu_role.as_u64`.
    pub role: u64,
    /// Of [`flag`].
    pub flags: u32,
    /// `root_level`, argument of `*_load_mmu_pgd`.
    pub level: u32,
    /// Root level of the MMU in use.
    pub mmu_level: u32,
    /// `kvm_mmu_page_role` of the page that `root_hpa` is.
    pub page_role: u32,
    /// The kernel's variables.
    pub inputs: Inputs,
}

/// The MMU for a nested guest (`arch.guest_mmu`) was set up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowRecord {
    /// Kind [`super::kind::SHADOW`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
    /// EPTP12; 0 for NPT.
    pub eptp12: u64,
    /// CR4 of L1, for NPT.
    pub cr4: u64,
    /// EFER of L1, for NPT.
    pub efer: u64,
    /// `root_role.word` of `guest_mmu`, else `mmu_role.as_u64`.
    pub role: u64,
    /// Root level of `guest_mmu`.
    pub level: u32,
    /// Direct bit of `guest_mmu`.
    pub direct: u32,
    /// The level that `guest_mmu` walks L1's table from: `cpu_role.base.level`, else `root_level`.
    pub walk_level: u32,
    /// `vmx->nested.msrs.ept_caps`: the EPT capabilities that this L1 is shown.
    pub ept_caps: u32,
    /// The kernel's variables.
    pub inputs: Inputs,
}

/// The same fault of a vCPU again and again, with the same answer each time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultLoopRecord {
    /// Kind [`super::kind::FAULT_LOOP`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
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
    /// Root level of the MMU in use.
    pub mmu_level: u32,
    /// Explicit padding.
    pub reserved: u32,
}

/// The entries that a fault's address is translated by, read from the root down right after KVM has
/// handled the fault.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkRecord {
    /// Kind [`super::kind::WALK`].
    pub header: Header,
    /// The vCPU.
    pub of: Subject,
    /// The guest-physical address.
    pub gpa: u64,
    /// `PFERR_*` bits, as `kvm_mmu_page_fault` was called with.
    pub error_code: u64,
    /// `root.hpa` of the MMU that was in use.
    pub root_hpa: u64,
    /// The entries, the root's first; those from `count` on are 0.
    pub entries: [u64; LEVELS],
    /// What KVM resolved, if [`flag::REQUESTED`]: the frame of the guest,
    pub requested_gfn: u64,
    /// that of the host, of 4 KiB,
    pub requested_pfn: u64,
    /// and the level that was to be mapped.
    pub requested_level: u32,
    /// Return of `kvm_tdp_page_fault`, a `RET_PF_*`, if [`flag::ANSWERED`].
    pub answer: u32,
    /// Return of `kvm_mmu_page_fault`, as a signed number.
    pub result: u32,
    /// Of [`flag`].
    pub flags: u32,
    /// `kvm_mmu_page_role` of each page that an entry was read from.
    pub roles: [u32; LEVELS],
    /// How many entries were read.
    pub count: u32,
    /// Root level of the MMU that was in use.
    pub level: u32,
    /// `flags` of the memslot.
    pub slot_flags: u32,
    /// `kvm->arch.noncoherent_dma_count`.
    pub noncoherent_dma: u32,
    /// `kvm->arch.vm_type`, 0 where the kernel has none.
    pub vm_type: u32,
    /// `kvm->arch.shadow_mmio_value`.
    pub mmio_value: u64,
    /// `kvm->mmu_invalidate_seq` when the fault began.
    pub notifier_seq: u64,
    /// `generation` of the memslots when the fault began.
    pub slots_generation: u64,
    /// The kernel's variables.
    pub inputs: Inputs,
}

/// An entry was changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpteRecord {
    /// Kind [`super::kind::SPTE`].
    pub header: Header,
    /// Address of `struct kvm`; 0 where that is not known.
    pub vm: u64,
    /// First frame of the guest that the entry is for, of 4 KiB.
    pub gfn: u64,
    /// The entry before, of [`super::Hook::SpteChanged`].
    pub old: u64,
    /// The entry now.
    pub new: u64,
    /// Physical address of the entry, of [`super::Hook::SpteSet`].
    pub place: u64,
    /// Level of the table that the entry is in.
    pub level: u32,
    /// Address space: 1 for SMM; of [`super::Hook::SpteChanged`].
    pub as_id: u32,
}

/// Levels of the deepest table.
pub const LEVELS: usize = 5;

/// A `struct kvm` was created, or is about to go: what its address meant before is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmRecord {
    /// Kind [`super::kind::VM`].
    pub header: Header,
    /// Address of `struct kvm`.
    pub vm: u64,
}
