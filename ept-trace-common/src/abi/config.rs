//! What userspace hands to the kernel side: offsets, filters, addresses.

use super::{ABSENT, Inputs, Variable};

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
    /// And inode; 0 on a kernel without pid namespaces.
    pub pidns_ino: u64,
    /// Only this process counts; 0 for all.
    pub filter_tgid: u32,
    /// 1: `arch.cpuid_entries` is an array in the vCPU and not a pointer to one (before 5.10).
    pub cpuid_embedded: u32,
    /// 1: what is plainly right is dropped in the kernel, and counted as filtered.
    pub drop_right: u32,
    /// Size of `struct page`, in bytes; [`ABSENT`] if not known.
    pub struct_page_size: u32,
    /// Of so many walks one is reported; 0: none is.
    pub one_walk_in: u32,
    /// Size of `struct kvm_memory_slot`, in bytes, where the memslots are an array (before 5.17).
    pub memslot_size: u32,
    /// 1: changes of entries are captured.
    pub history: u32,
    /// Explicit padding.
    pub reserved: u32,
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
            && self.memslot_size == other.memslot_size
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
    /// `arch.root_mmu`: the level that it walks the guest's own tables from.
    pub walk_level: Field,
    /// In `struct page`: `private`.
    pub page_private: Field,
    /// What of a VM tells whether a walk was raced.
    pub race: RaceFields,
    /// In `struct kvm`: `arch.noncoherent_dma_count`.
    pub noncoherent_dma: Field,
    /// In `struct kvm`: `arch.shadow_mmio_value`.
    pub mmio_value: Field,
}

/// Members by which it is seen that others have changed a table, or may.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaceFields {
    /// In `struct kvm`: `mmu_invalidate_seq`.
    pub notifier_seq: Field,
    /// In `struct kvm`: `mmu_invalidate_in_progress`.
    pub notifier_in_progress: Field,
    /// In `struct kvm`: `memslots[0]`, a pointer.
    pub memslots: Field,
    /// In `struct kvm_memslots`: `generation`.
    pub generation: Field,
    /// In `struct kvm`: the owner of `slots_lock`.
    pub slots_lock: Field,
    /// In `struct kvm_vcpu`: `last_used_slot`, the memslot of the last fault.
    pub last_used_slot: Field,
    /// In `struct kvm_memslots`: `used_slots`, where the memslots are an array (before 5.17).
    pub used_slots: Field,
    /// In `struct kvm_memslots`: where that array starts.
    pub slots: Field,
    /// In `struct kvm_memory_slot`: `base_gfn`.
    pub slot_base: Field,
    /// In `struct kvm_memory_slot`: `npages`.
    pub slot_pages: Field,
    /// In `struct kvm_memory_slot`: `flags`.
    pub slot_flags: Field,
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
    /// The variable `page_offset_base`: where all physical memory is mapped.
    pub page_offset_base: u64,
    /// Bits of an entry that encrypt and do not address: `sme_me_mask`.
    pub encryption_mask: u64,
    /// Address bits of an entry that the host does not have; all of them where that is not known.
    pub beyond_host: u64,
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
    /// In the records of kvm's own tracepoints.
    pub tracepoints: KvmTracepoints,
}

/// Places in the records of tracepoints that come with kvm, from their `format` files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvmTracepoints {
    /// `kvm_mmu_spte_requested`: `gfn`.
    pub requested_gfn: Field,
    /// `kvm_mmu_spte_requested`: `pfn`.
    pub requested_pfn: Field,
    /// `kvm_mmu_spte_requested`: `level`.
    pub requested_level: Field,
    /// `kvm_tdp_mmu_spte_changed`: `as_id`.
    pub changed_as_id: Field,
    /// `kvm_tdp_mmu_spte_changed`: `gfn`.
    pub changed_gfn: Field,
    /// `kvm_tdp_mmu_spte_changed`: `level`.
    pub changed_level: Field,
    /// `kvm_tdp_mmu_spte_changed`: `old_spte`.
    pub changed_old: Field,
    /// `kvm_tdp_mmu_spte_changed`: `new_spte`.
    pub changed_new: Field,
    /// `kvm_mmu_set_spte`: `gfn`.
    pub set_gfn: Field,
    /// `kvm_mmu_set_spte`: `level`.
    pub set_level: Field,
    /// `kvm_mmu_set_spte`: `spte`.
    pub set_spte: Field,
    /// `kvm_mmu_set_spte`: `sptep`.
    pub set_place: Field,
}

impl KvmTracepoints {
    /// None of them is there.
    pub const ABSENT: Self = Self {
        requested_gfn: Field::ABSENT,
        requested_pfn: Field::ABSENT,
        requested_level: Field::ABSENT,
        changed_as_id: Field::ABSENT,
        changed_gfn: Field::ABSENT,
        changed_level: Field::ABSENT,
        changed_old: Field::ABSENT,
        changed_new: Field::ABSENT,
        set_gfn: Field::ABSENT,
        set_level: Field::ABSENT,
        set_spte: Field::ABSENT,
        set_place: Field::ABSENT,
    };
}

impl Variables {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        address: [0; Variable::COUNT],
        judged: Inputs { valid: 0, value: [0; Variable::COUNT] },
        tdp_page_fault: 0,
        vmemmap_base: 0,
        page_offset_base: 0,
        encryption_mask: 0,
        beyond_host: u64::MAX,
        page_role: Field::ABSENT,
        ept_caps: Field::ABSENT,
        eptp12: Field::ABSENT,
        l1_cr4: Field::ABSENT,
        l1_efer: Field::ABSENT,
        eptp: Field::ABSENT,
        tracepoints: KvmTracepoints::ABSENT,
    };
}
