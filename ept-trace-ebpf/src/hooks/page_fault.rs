//! `kvm_mmu_page_fault` and, inside it, `kvm_tdp_page_fault`: the same fault of a vCPU again and
//! again, although it was answered.
//!
//! Faults are many and loops are rare, so they are counted here, and a record is made only of
//! what has come back [`LOOP`] times in a row, and of every doubling after that.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ept_trace_common::abi::{FaultLoopRecord, Hook, Subject, kind, unread};

use crate::maps::{
    Arguments, FAULTS, IN_FAULT, Outcome, Repeated, URGENT, config, count, emit, header, wanted,
};
use crate::vcpu;

/// So many equal faults in a row are a loop. A power of two.
const LOOP: u32 = 256;
/// Within this time: what write-protects a page again and again, such as dirty logging, is slower.
const PERIOD_NS: u64 = 1_000_000_000;
/// After such a pause it is another loop.
const PAUSE_NS: u64 = PERIOD_NS / 4;

/// Entry of `kvm_mmu_page_fault(vcpu, cr2_or_gpa, error_code, ...)`.
#[kprobe]
pub fn kvm_mmu_page_fault(ctx: ProbeContext) -> u32 {
    let outcome = match (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u64>(2)) {
        _ if !wanted() => Outcome::Filtered,
        (Some(vcpu), Some(gpa), Some(error_code)) => {
            let call = Arguments { vcpu, others: [gpa, error_code, 0] };
            match IN_FAULT.insert(&bpf_get_current_pid_tgid(), &call, 0) {
                Ok(()) => Outcome::Delivered,
                Err(_) => Outcome::Dropped,
            }
        }
        _ => Outcome::Dropped,
    };
    count(Hook::PageFault, &outcome);
    0
}

/// Return of `kvm_tdp_page_fault`.
#[kretprobe]
pub fn kvm_tdp_page_fault(ctx: RetProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its own key.
    let outcome = match unsafe { IN_FAULT.get(&thread) }.copied() {
        None => Outcome::Filtered,
        Some(call) => answered(&call, ctx.ret::<u64>() as u32),
    };
    // Once for each fault: KVM_PRE_FAULT_MEMORY and asynchronous faults come here without one.
    let _ = IN_FAULT.remove(&thread);
    count(Hook::TdpFaultReturn, &outcome);
    0
}

#[inline(always)]
fn answered(call: &Arguments, answer: u32) -> Outcome {
    let [gpa, error_code, _] = call.others;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let first = Repeated { gpa, error_code, since_ns: now, last_ns: now, answer, count: 1 };
    let Some(last) = FAULTS.get_ptr_mut(&call.vcpu) else {
        return match FAULTS.insert(&call.vcpu, &first, 0) {
            Ok(()) => Outcome::Filtered,
            Err(_) => Outcome::Dropped,
        };
    };
    // SAFETY: the element stays mapped while the program runs. Should the map have given it to
    // another vCPU meanwhile, a count is wrong, and starts anew with its next fault.
    let last = unsafe { &mut *last };
    if (last.gpa, last.error_code, last.answer) != (gpa, error_code, answer)
        || (last.count < LOOP && now - last.since_ns > PERIOD_NS)
        || now - last.last_ns > PAUSE_NS
    {
        *last = first;
        return Outcome::Filtered;
    }
    last.count = last.count.saturating_add(1);
    last.last_ns = now;
    if last.count < LOOP || !last.count.is_power_of_two() {
        return Outcome::Filtered;
    }
    let fields = &config().fields;
    let vcpu = call.vcpu;
    let mut of = Subject::default();
    vcpu::identify(&mut of, vcpu);
    let mmu = vcpu::base_of_mmu_in_use(vcpu);
    let level = vcpu::member(&mut of.unread, mmu, &fields.root_level, unread::ROOT_LEVEL);
    let record = FaultLoopRecord {
        header: header(kind::FAULT_LOOP, Hook::TdpFaultReturn),
        of,
        gpa,
        error_code,
        for_ns: now - last.since_ns,
        count: last.count,
        answer,
        mmu_level: level as u32,
        reserved: 0,
    };
    emit(&URGENT, &record)
}
