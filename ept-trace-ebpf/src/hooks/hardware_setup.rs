//! `hardware_setup` of the vendor module: runs once, at load, and is freed after.

use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use ept_trace_common::abi::{Hook, SetupRecord, kind};

use crate::call::{count, emit, header};
use crate::maps::URGENT;

#[inline(always)]
fn entered(hook: Hook) -> u32 {
    let record = SetupRecord { header: header(kind::HARDWARE_SETUP, hook) };
    count(hook, &emit(&URGENT, &record));
    0
}

/// `hardware_setup` of `kvm_intel` up to 6.8.
#[kprobe]
pub fn hardware_setup(_ctx: ProbeContext) -> u32 {
    entered(Hook::HardwareSetup)
}

/// `vmx_hardware_setup` of `kvm_intel` from 6.10.
#[kprobe]
pub fn vmx_hardware_setup(_ctx: ProbeContext) -> u32 {
    entered(Hook::VmxHardwareSetup)
}

/// `svm_hardware_setup` of `kvm_amd`.
#[kprobe]
pub fn svm_hardware_setup(_ctx: ProbeContext) -> u32 {
    entered(Hook::SvmHardwareSetup)
}
