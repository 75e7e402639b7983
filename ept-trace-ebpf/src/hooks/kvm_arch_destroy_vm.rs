//! `kvm_arch_destroy_vm(kvm)`: the address of a VM is free to be another's.

use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use ept_trace_common::abi::{Hook, VmRecord, kind};

use crate::call::{Outcome, count, emit, header};
use crate::maps::URGENT;

/// Entry of `kvm_arch_destroy_vm`.
#[kprobe]
pub fn kvm_arch_destroy_vm(ctx: ProbeContext) -> u32 {
    let outcome = match ctx.arg::<u64>(0) {
        Some(vm) => emit(&URGENT, &VmRecord { header: header(kind::VM, Hook::DestroyVm), vm }),
        None => Outcome::Dropped,
    };
    count(Hook::DestroyVm, &outcome);
    0
}
