//! Where the members are that the kernel side reads: BTF paths, the newest kernel's first.

use std::fs;

use anyhow::{Context as _, Result};
use ept_trace_common::abi::{
    Field, Fields, FileFields, KvmTracepoints, RaceFields, TracepointFields,
};

use super::{Btf, BtfError, Tracefs};
use crate::model::RetPf;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Offsets on this kernel.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Of `kvm_vcpu` and `kvm`.
    pub fields: Fields,
    /// `arch.cpuid_entries` is an array in the vCPU.
    pub cpuid_embedded: bool,
    /// From `current` to a file.
    pub files: FileFields,
    /// What is not there that every decision needs.
    pub missing: Vec<String>,
    /// What is not there that only the tracepoints need.
    pub missing_files: Vec<String>,
    /// `vcpu->arch.tdp_level` exists.
    pub has_cached_tdp_level: bool,
    /// Size of `struct page`, if known.
    pub struct_page_size: Option<u32>,
    /// Size of `struct kvm_memory_slot`, if known.
    pub memslot_size: Option<u32>,
    /// What only the modules themselves tell, so that it is not known before they are loaded.
    pub modules: ModuleLayout,
}

/// What the BTF of `kvm` and of `kvm_intel` tells beyond that of vmlinux.
#[derive(Clone, Debug)]
pub struct ModuleLayout {
    /// In `kvm_mmu_page`: `role`.
    pub page_role: Field,
    /// Which bit of `kvm_mmu_page_role` is `passthrough`, if there is such a bit.
    pub passthrough_bit: Option<u8>,
    /// Which bit of it is `invalid`.
    pub invalid_bit: Option<u8>,
    /// In `vcpu_vmx`: `nested.msrs.ept_caps`.
    pub ept_caps: Field,
    /// `RET_PF_FIXED` and `RET_PF_SPURIOUS`.
    pub ret_pf: Option<RetPf>,
    /// Names of the parameters of `kvm_configure_mmu`.
    pub configure_mmu_parameters: Option<Vec<String>>,
    /// Names of the parameters of `kvm_init_shadow_ept_mmu`.
    pub shadow_ept_parameters: Option<Vec<String>>,
    /// Names of the parameters of `kvm_init_shadow_npt_mmu`.
    pub shadow_npt_parameters: Option<Vec<String>>,
}

impl Layout {
    /// Resolves the members in the BTF of the running kernel.
    ///
    /// # Errors
    ///
    /// If the kernel has no BTF.
    pub fn read() -> Result<Self> {
        let vmlinux = fs::read(VMLINUX)
            .with_context(|| format!("{VMLINUX}: the kernel needs CONFIG_DEBUG_INFO_BTF"))?;
        let mut btf = Btf::parse(&vmlinux).context(VMLINUX)?;
        // kvm_vcpu is described in vmlinux even where KVM is a module. A module that was built
        // apart has its own description, and that one counts.
        add(&mut btf, "kvm");
        let mut layout = Self::resolve(&btf);
        add(&mut btf, "kvm_intel");
        layout.modules.ept_caps = find_known(&btf, "vcpu_vmx", &["nested.msrs.ept_caps"]);
        Ok(layout)
    }

    /// Resolves the members in given types.
    pub fn resolve(btf: &Btf) -> Self {
        let mut missing = Vec::new();
        let mut needed = |structure: &str, paths: &[&str]| {
            find(btf, structure, paths).unwrap_or_else(|err| {
                missing.push(err.to_string());
                Field::ABSENT
            })
        };
        let known = |structure, paths: &[&str]| find_known(btf, structure, paths);
        let fields = Fields {
            kvm: needed("kvm_vcpu", &["kvm"]),
            vcpu_id: needed("kvm_vcpu", &["vcpu_id"]),
            maxphyaddr: needed("kvm_vcpu", &["arch.maxphyaddr"]),
            mmu: needed("kvm_vcpu", &["arch.mmu"]),
            guest_mmu: needed("kvm_vcpu", &["arch.guest_mmu"]),
            role: needed(
                "kvm_vcpu",
                &["arch.root_mmu.root_role.word", "arch.root_mmu.mmu_role.as_u64"],
            ),
            root_level: needed(
                "kvm_vcpu",
                &["arch.root_mmu.root_role.level", "arch.root_mmu.shadow_root_level"],
            ),
            direct: needed(
                "kvm_vcpu",
                &["arch.root_mmu.root_role.direct", "arch.root_mmu.direct_map"],
            ),
            cpuid_nent: needed("kvm_vcpu", &["arch.cpuid_nent"]),
            cpuid_entries: needed("kvm_vcpu", &["arch.cpuid_entries"]),
            userspace_pid: needed("kvm", &["userspace_pid"]),
            cr4: known("kvm_vcpu", &["arch.cr4"]),
            efer: known("kvm_vcpu", &["arch.efer"]),
            cpu_role: known(
                "kvm_vcpu",
                &["arch.root_mmu.cpu_role.as_u64", "arch.gva_walk.cpu_role.as_u64"],
            ),
            vm_type: known("kvm", &["arch.vm_type"]),
            root_mmu: known("kvm_vcpu", &["arch.root_mmu"]),
            root_hpa: known("kvm_vcpu", &["arch.root_mmu.root.hpa", "arch.root_mmu.root_hpa"]),
            page_fault: known("kvm_vcpu", &["arch.root_mmu.page_fault"]),
            ad_disabled: known(
                "kvm_vcpu",
                &["arch.root_mmu.root_role.ad_disabled", "arch.root_mmu.mmu_role.base.ad_disabled"],
            ),
            walk_level: known(
                "kvm_vcpu",
                &["arch.root_mmu.cpu_role.base.level", "arch.root_mmu.root_level"],
            ),
            page_private: known("page", &["private"]),
            race: RaceFields {
                notifier_seq: known("kvm", &["mmu_invalidate_seq", "mmu_notifier_seq"]),
                notifier_in_progress: known(
                    "kvm",
                    &["mmu_invalidate_in_progress", "mmu_notifier_count"],
                ),
                // The first of an array of pointers, one for each address space.
                memslots: first_pointer(known("kvm", &["memslots"])),
                generation: known("kvm_memslots", &["generation"]),
                slots_lock: known("kvm", &["slots_lock.owner.counter"]),
                // A pointer; where it is a number (5.14 to 5.16) the memslots are an array still.
                last_used_slot: pointer(known("kvm_vcpu", &["last_used_slot"])),
                used_slots: known("kvm_memslots", &["used_slots"]),
                slots: known("kvm_memslots", &["memslots"]),
                slot_base: known("kvm_memory_slot", &["base_gfn"]),
                slot_pages: known("kvm_memory_slot", &["npages"]),
                slot_flags: known("kvm_memory_slot", &["flags"]),
            },
            noncoherent_dma: known("kvm", &["arch.noncoherent_dma_count.counter"]),
            mmio_value: known("kvm", &["arch.shadow_mmio_value"]),
        };
        let mut missing_files = Vec::new();
        let mut needed = |structure: &str, path: &str| {
            find(btf, structure, &[path]).unwrap_or_else(|err| {
                missing_files.push(err.to_string());
                Field::ABSENT
            })
        };
        let files = FileFields {
            files: needed("task_struct", "files"),
            fdt: needed("files_struct", "fdt"),
            max_fds: needed("fdtable", "max_fds"),
            fd: needed("fdtable", "fd"),
            private_data: needed("file", "private_data"),
            dentry: needed("file", "f_path.dentry"),
            name: needed("dentry", "d_name.name"),
            superblock: needed("dentry", "d_sb"),
            magic: needed("super_block", "s_magic"),
        };
        Self {
            fields,
            cpuid_embedded: !btf.is_pointer("kvm_vcpu", "arch.cpuid_entries"),
            files,
            missing,
            missing_files,
            has_cached_tdp_level: btf.field("kvm_vcpu", "arch.tdp_level").is_ok(),
            struct_page_size: btf.size("page").ok(),
            memslot_size: btf.size("kvm_memory_slot").ok(),
            modules: ModuleLayout::resolve(btf),
        }
    }
}

impl ModuleLayout {
    fn resolve(btf: &Btf) -> Self {
        let ret_pf = |fixed, spurious| Some(RetPf { fixed: fixed?, spurious: spurious? });
        Self {
            page_role: find_known(btf, "kvm_mmu_page", &["role.word", "role"]),
            passthrough_bit: bit_of(btf, "kvm_mmu_page_role", "passthrough"),
            invalid_bit: bit_of(btf, "kvm_mmu_page_role", "invalid"),
            ept_caps: Field::ABSENT,
            ret_pf: ret_pf(btf.enumerator("RET_PF_FIXED"), btf.enumerator("RET_PF_SPURIOUS")),
            configure_mmu_parameters: btf.parameters("kvm_configure_mmu"),
            shadow_ept_parameters: btf.parameters("kvm_init_shadow_ept_mmu"),
            shadow_npt_parameters: btf.parameters("kvm_init_shadow_npt_mmu"),
        }
    }
}

/// A member that is a pointer; none that is something else.
fn pointer(field: Field) -> Field {
    if field.size == 8 { field } else { Field::ABSENT }
}

/// The first element of an array of pointers.
fn first_pointer(array: Field) -> Field {
    if array == Field::ABSENT { array } else { Field { size: 8, width: 0, shift: 0, ..array } }
}

/// The place of a member of one bit, from the structure's first.
fn bit_of(btf: &Btf, structure: &str, member: &str) -> Option<u8> {
    let field = btf.field(structure, member).ok().filter(|field| field.width == 1)?;
    u8::try_from(field.offset * 8 + u32::from(field.shift)).ok()
}

/// Puts the BTF of a module on top, in the place of another; without it, vmlinux has to do.
fn add(btf: &mut Btf, module: &str) {
    let path = format!("/sys/kernel/btf/{module}");
    if let Ok(bytes) = fs::read(&path)
        && let Err(err) = btf.add_module(&bytes)
    {
        log::warn!("{path} is not used: {err}");
    }
}

/// The first of the paths that exists, if any does.
fn find_known(btf: &Btf, structure: &str, paths: &[&str]) -> Field {
    find(btf, structure, paths).unwrap_or(Field::ABSENT)
}

/// The first of the paths that exists; the error of the first if none does.
fn find(btf: &Btf, structure: &str, paths: &[&str]) -> Result<Field, BtfError> {
    let mut first_error = None;
    for path in paths {
        match btf.field(structure, path) {
            Ok(field) => return Ok(field),
            Err(BtfError::NotFound(_)) if first_error.is_some() => {}
            Err(err) => first_error = Some(err),
        }
    }
    Err(first_error.unwrap_or(BtfError::NotFound(structure.to_owned())))
}

/// Where the fields are in the records of the tracepoints; absent ones are told in the plan.
pub fn tracepoint_fields(tracefs: &Tracefs) -> TracepointFields {
    let place =
        |category, event, field| tracefs.field(category, event, field).unwrap_or(Field::ABSENT);
    TracepointFields {
        ioctl_fd: place("syscalls", "sys_enter_ioctl", "fd"),
        ioctl_cmd: place("syscalls", "sys_enter_ioctl", "cmd"),
        ioctl_ret: place("syscalls", "sys_exit_ioctl", "ret"),
        page_gfn: place("kvmmmu", "kvm_mmu_get_page", "gfn"),
        page_role: place("kvmmmu", "kvm_mmu_get_page", "role"),
    }
}

/// The same, of the tracepoints that come with kvm.
pub fn kvm_tracepoints(tracefs: &Tracefs) -> KvmTracepoints {
    let place = |event, field| tracefs.field("kvmmmu", event, field).unwrap_or(Field::ABSENT);
    let requested = |field| place("kvm_mmu_spte_requested", field);
    let changed = |field| place("kvm_tdp_mmu_spte_changed", field);
    let set = |field| place("kvm_mmu_set_spte", field);
    KvmTracepoints {
        requested_gfn: requested("gfn"),
        requested_pfn: requested("pfn"),
        requested_level: requested("level"),
        changed_as_id: changed("as_id"),
        changed_gfn: changed("gfn"),
        changed_level: changed("level"),
        changed_old: changed("old_spte"),
        changed_new: changed("new_spte"),
        set_gfn: set("gfn"),
        set_level: set("level"),
        set_spte: set("spte"),
        set_place: set("sptep"),
    }
}
