//! `kvm_mmu_page_fault` and, inside it, `kvm_tdp_page_fault`: the same fault of a vCPU again and
//! again, although it was answered.
//!
//! Faults are many and loops are rare, so they are counted here, and a record is made only of
//! what has come back many times in a row, and of every doubling after that.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ept_trace_common::abi::{FaultLoopRecord, Hook, Subject, flag, kind, unread};

use crate::call::{Outcome, count, emit, header, wanted};
use crate::maps::{FAULTS, Fault, IN_FAULT, Repeated, URGENT, WANTED_VMS, config};
use crate::{read, slots, vcpu};

/// Within this time a loop is one: what write-protects a page again and again, such as dirty logging,
/// is slower.
const PERIOD_NS: u64 = 1_000_000_000;
/// After such a pause it is another loop.
const PAUSE_NS: u64 = PERIOD_NS / 4;

/// Entry of `kvm_mmu_page_fault(vcpu, cr2_or_gpa, error_code, ...)`.
#[kprobe]
pub fn kvm_mmu_page_fault(ctx: ProbeContext) -> u32 {
    let outcome = match (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u64>(2)) {
        _ if !wanted() => Outcome::Filtered,
        (Some(vcpu), Some(gpa), Some(error_code)) => remember(vcpu, gpa, error_code),
        _ => Outcome::Dropped,
    };
    count(Hook::PageFault, &outcome);
    0
}

#[inline(always)]
fn remember(vcpu: u64, gpa: u64, error_code: u64) -> Outcome {
    let fields = &config().fields;
    let vm = read::field(vcpu, &fields.kvm).unwrap_or(0);
    if config().history != 0 && config().filter_tgid != 0 {
        let _ = WANTED_VMS.insert(&vm, &0, 0);
    }
    let mmu = vcpu::base_of_mmu_in_use(vcpu);
    let fault = Fault {
        vcpu,
        gpa,
        error_code,
        mmu,
        root_hpa: read::field(mmu, &fields.root_hpa).unwrap_or(0),
        notifier_seq: read::field(vm, &fields.race.notifier_seq).unwrap_or(0),
        slots_generation: slots::generation(vm).unwrap_or(0),
        requested_gfn: 0,
        requested_pfn: 0,
        requested_level: 0,
        answer: 0,
        flags: if vcpu::is_nested(vcpu) { flag::NESTED } else { 0 }
            | if slots::are_locked(vm) { flag::RACED_SLOTS } else { 0 },
        reserved: 0,
    };
    match IN_FAULT.insert(&bpf_get_current_pid_tgid(), &fault, 0) {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Dropped,
    }
}

/// Return of `kvm_tdp_page_fault`.
#[kretprobe]
pub fn kvm_tdp_page_fault(ctx: RetProbeContext) -> u32 {
    let outcome = match IN_FAULT.get_ptr_mut(&bpf_get_current_pid_tgid()) {
        // KVM_PRE_FAULT_MEMORY and asynchronous faults come here without one.
        None => Outcome::Filtered,
        Some(fault) => {
            // SAFETY: only this thread writes its own key.
            let fault = unsafe { &mut *fault };
            if fault.flags & flag::ANSWERED == 0 {
                fault.flags |= flag::ANSWERED;
                fault.answer = ctx.ret::<u64>() as u32;
                answered(fault)
            } else {
                Outcome::Filtered
            }
        }
    };
    count(Hook::TdpFaultReturn, &outcome);
    0
}

#[inline(always)]
fn answered(fault: &Fault) -> Outcome {
    let Fault { vcpu, gpa, error_code, answer, .. } = *fault;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let (since_ns, last_ns) = (now, now);
    let first = Repeated { gpa, error_code, since_ns, last_ns, walked: 0, answer, count: 1 };
    let Some(last) = FAULTS.get_ptr_mut(&vcpu) else {
        return match FAULTS.insert(&vcpu, &first, 0) {
            Ok(()) => Outcome::Filtered,
            Err(_) => Outcome::Dropped,
        };
    };
    // SAFETY: the element stays mapped while the program runs. Should the map have given it to
    // another vCPU meanwhile, a count is wrong, and starts anew with its next fault.
    let last = unsafe { &mut *last };
    if (last.gpa, last.error_code, last.answer) != (gpa, error_code, answer)
        || (!last.is_loop() && now - last.since_ns > PERIOD_NS)
        || now - last.last_ns > PAUSE_NS
    {
        *last = first;
        return Outcome::Filtered;
    }
    last.count = last.count.saturating_add(1);
    last.last_ns = now;
    if !last.is_told() {
        return Outcome::Filtered;
    }
    let fields = &config().fields;
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
