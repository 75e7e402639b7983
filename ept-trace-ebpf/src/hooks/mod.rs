//! One file for each kernel function or tracepoint.

mod get_page;
mod hardware_setup;
mod history;
mod init_kvm_mmu;
mod init_shadow_mmu;
mod ioctl;
mod kvm_arch_destroy_vm;
mod kvm_configure_mmu;
mod load_mmu_pgd;
mod page_fault;
mod walk;
