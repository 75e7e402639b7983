//! `kvm_init_mmu(vcpu)`: the root level is chosen between its entry and its return.
//!
//! At entry, on the CPUID path, the role is already wiped, so the outcome is read at return;
//! and at return the argument is gone, so the vCPU is kept from entry, by thread.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_log_ebpf::warn;
use ept_trace_common::abi::{Hook, flag};

use crate::call::{Outcome, count, wanted};
use crate::maps::{IN_INIT_MMU, InFlight};
use crate::vcpu;

/// Entry of `kvm_init_mmu`.
#[kprobe]
pub fn kvm_init_mmu_entry(ctx: ProbeContext) -> u32 {
    let outcome = entry(&ctx);
    if matches!(outcome, Outcome::Dropped) {
        warn!(&ctx, "kvm_init_mmu: no room to remember the call");
    }
    count(Hook::InitMmuEntry, &outcome);
    0
}

#[inline(always)]
fn entry(ctx: &ProbeContext) -> Outcome {
    if !wanted() {
        return Outcome::Filtered;
    }
    let Some(vcpu) = ctx.arg::<u64>(0) else { return Outcome::Dropped };
    let nested = if vcpu::is_nested(vcpu) { flag::NESTED } else { 0 };
    let call = InFlight {
        vcpu,
        detail: u64::from(nested | flag::BEFORE_READ),
        before: vcpu::mmu_state(vcpu),
    };
    match IN_INIT_MMU.insert(&bpf_get_current_pid_tgid(), &call, 0) {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Dropped,
    }
}

/// Return of `kvm_init_mmu`.
#[kretprobe]
pub fn kvm_init_mmu_return(_ctx: RetProbeContext) -> u32 {
    let outcome = returned();
    count(Hook::InitMmuReturn, &outcome);
    0
}

#[inline(always)]
fn returned() -> Outcome {
    if !wanted() {
        return Outcome::Filtered;
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its own key.
    let Some(call) = (unsafe { IN_INIT_MMU.get(&thread) }).copied() else {
        // The call began before us, or its loss was counted at its entry.
        return Outcome::Filtered;
    };
    let _ = IN_INIT_MMU.remove(&thread);
    vcpu::report_decision(Hook::InitMmuReturn, call.vcpu, call.detail, &call.before)
}

/// Entry of `init_kvm_tdp_mmu`: of the three ways of `kvm_init_mmu`, the TDP one was taken.
#[kprobe]
pub fn init_kvm_tdp_mmu(_ctx: ProbeContext) -> u32 {
    let outcome = match IN_INIT_MMU.get_ptr_mut(&bpf_get_current_pid_tgid()) {
        Some(call) => {
            // SAFETY: only this thread writes its own key.
            unsafe { (*call).detail |= u64::from(flag::TDP_INIT_SEEN) };
            Outcome::Delivered
        }
        None => Outcome::Filtered,
    };
    count(Hook::InitTdpMmu, &outcome);
    0
}
