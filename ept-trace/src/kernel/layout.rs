//! Where the members are that the kernel side reads: BTF paths, the newest kernel's first.

use std::fs;

use anyhow::{Context as _, Result};
use ept_trace_common::abi::{Field, Fields, FileFields, TracepointFields};

use super::{Btf, BtfError, Tracefs};

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
    /// Names of the parameters of `kvm_configure_mmu`.
    pub configure_mmu_parameters: Option<Vec<String>>,
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
        if let Ok(module) = fs::read("/sys/kernel/btf/kvm")
            && let Err(err) = btf.add_module(&module)
        {
            log::warn!("/sys/kernel/btf/kvm is not used: {err}");
        }
        Ok(Self::resolve(&btf))
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
        let known =
            |structure, paths: &[&str]| find(btf, structure, paths).unwrap_or(Field::ABSENT);
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
            configure_mmu_parameters: btf.parameters("kvm_configure_mmu"),
        }
    }
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
