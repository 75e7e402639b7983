//! `kvm_init_shadow_ept_mmu` and `kvm_init_shadow_npt_mmu`: the MMU for the tables of L1, which is
//! itself a hypervisor, is set up (`arch.guest_mmu`).
//!
//! What L1 asks for is in the arguments, what came of it is read at the return.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ept_trace_common::abi::{ABSENT, Field, Hook, Variables, kind, unread};

use crate::call::{Outcome, count, emit, header, wanted};
use crate::maps::{
    Arguments, Aspect, EVENTS, IN_SHADOW_INIT, SCRATCH_SHADOW, VARIABLES, config, if_news,
};
use crate::{read, vcpu};

/// Entry of `kvm_init_shadow_ept_mmu(vcpu, ..., new_eptp)`.
#[kprobe]
pub fn kvm_init_shadow_ept_mmu(ctx: ProbeContext) -> u32 {
    let outcome = remember(&ctx, |places| [places.eptp12, Field::ABSENT]);
    count(Hook::ShadowEptEntry, &outcome);
    0
}

/// Return of `kvm_init_shadow_ept_mmu`.
#[kretprobe]
pub fn kvm_init_shadow_ept_mmu_return(_ctx: RetProbeContext) -> u32 {
    count(Hook::ShadowEptReturn, &returned(Hook::ShadowEptReturn));
    0
}

/// Entry of `kvm_init_shadow_npt_mmu(vcpu, ..., cr4, efer, nested_cr3, ...)`.
#[kprobe]
pub fn kvm_init_shadow_npt_mmu(ctx: ProbeContext) -> u32 {
    let outcome = remember(&ctx, |places| [places.l1_cr4, places.l1_efer]);
    count(Hook::ShadowNptEntry, &outcome);
    0
}

/// Return of `kvm_init_shadow_npt_mmu`.
#[kretprobe]
pub fn kvm_init_shadow_npt_mmu_return(_ctx: RetProbeContext) -> u32 {
    count(Hook::ShadowNptReturn, &returned(Hook::ShadowNptReturn));
    0
}

/// Remembers the vCPU and what L1 asks for. Signatures differ, so userspace tells where it is.
#[inline(always)]
fn remember(ctx: &ProbeContext, places: impl Fn(&Variables) -> [Field; 2]) -> Outcome {
    if !wanted() {
        return Outcome::Filtered;
    }
    let Some(vcpu) = ctx.arg::<u64>(0) else { return Outcome::Dropped };
    let [first, second] = VARIABLES.get(0).map_or([Field::ABSENT; 2], places);
    let registers = ctx.as_ptr() as u64;
    let asked = [read::field(registers, &first), read::field(registers, &second)];
    // For EPT there is no second one.
    let is_read = asked[0].is_some() && (asked[1].is_some() || second.offset == ABSENT);
    let others = [asked[0].unwrap_or(0), asked[1].unwrap_or(0), u64::from(is_read)];
    match IN_SHADOW_INIT.insert(&bpf_get_current_pid_tgid(), &Arguments { vcpu, others }, 0) {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Dropped,
    }
}

#[inline(always)]
fn returned(hook: Hook) -> Outcome {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its own key.
    let Some(call) = (unsafe { IN_SHADOW_INIT.get(&thread) }).copied() else {
        // The call began before us, or its loss was counted at its entry.
        return Outcome::Filtered;
    };
    let _ = IN_SHADOW_INIT.remove(&thread);
    let Some(scratch) = SCRATCH_SHADOW.get_ptr_mut(0) else { return Outcome::Dropped };
    // SAFETY: an element of this CPU; the kernel runs one tracing program on a CPU at a time.
    let record = unsafe { &mut *scratch };
    let fields = &config().fields;
    let vcpu = call.vcpu;
    let mmu = vcpu::base_of_guest_mmu(vcpu);
    record.header = header(kind::SHADOW, hook);
    let is_ept = matches!(hook, Hook::ShadowEptReturn);
    let [first, second, is_read] = call.others;
    record.eptp12 = if is_ept { first } else { 0 };
    [record.cr4, record.efer] = if is_ept { [0; 2] } else { [first, second] };
    vcpu::identify(&mut record.of, vcpu);
    let missing = &mut record.of.unread;
    if is_read == 0 {
        *missing |= unread::L1;
    }
    record.role = vcpu::member(missing, mmu, &fields.role, unread::ROLE);
    record.level = vcpu::member(missing, mmu, &fields.root_level, unread::ROOT_LEVEL) as u32;
    record.walk_level = vcpu::member(missing, mmu, &fields.walk_level, unread::WALK_LEVEL) as u32;
    record.direct = vcpu::member(missing, mmu, &fields.direct, unread::DIRECT) as u32;
    record.ept_caps = 0;
    if is_ept && let Some(variables) = VARIABLES.get(0) {
        let place = &variables.ept_caps;
        record.ept_caps = vcpu::member(missing, vcpu, place, unread::EPT_CAPS) as u32;
    }
    vcpu::read_inputs(&mut record.inputs);
    let levels = u64::from(record.level) << 4 | u64::from(record.walk_level);
    let rest = levels << 32 | u64::from(record.ept_caps);
    let now = [first, second, record.role, rest, record.of.vm, record.inputs.packed()];
    if_news(vcpu, Aspect::Shadow, &now, || emit(&EVENTS, record))
}
