//! One file for each kernel function or tracepoint.

/// A program on a tracepoint, given the address of the event's record.
///
/// It returns 1, for with 0 the kernel keeps the event from every perf that records the same
/// tracepoint (`perf_trace_run_bpf_submit`). aya's attribute would return 0.
macro_rules! tracepoint {
    ($(#[$doc:meta])* $name:ident($record:ident) $body:block) => {
        $(#[$doc])*
        // SAFETY: the names are what userspace looks the program up by; nothing else has them.
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        pub fn $name(context: *mut core::ffi::c_void) -> u32 {
            let $record = context as u64;
            $body
            1
        }
    };
}

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
