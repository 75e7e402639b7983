//! `vmx_load_mmu_pgd` and `svm_load_mmu_pgd`: a root is put in use.
//!
//! On VMX the EPTP is made of it meanwhile, by `construct_eptp`, which most compilers inline. So
//! it is read where it is written to the VMCS: by a probe on that very instruction, whose place
//! and register userspace has found. The vCPU is kept from the entry, by thread.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use ept_trace_common::abi::{Field, Hook, LoadRecord, Variable, flag, kind, unread};
use ept_trace_common::decision::tdp_root_level;
use ept_trace_common::eptp;

use crate::call::{Look, Outcome, count, header, wanted};
use crate::maps::{
    Arguments, Aspect, EVENTS, IN_LOAD_PGD, SCRATCH_LOAD, VARIABLES, config, if_news,
};
use crate::{page, read, vcpu};

/// `guest_mode` of `kvm_mmu_page_role`: a root for L2.
const GUEST_MODE: u32 = 1 << 17;

/// Entry of `vmx_load_mmu_pgd(vcpu, root_hpa, root_level)`.
#[kprobe]
pub fn vmx_load_mmu_pgd(ctx: ProbeContext) -> u32 {
    let outcome = match arguments(&ctx) {
        _ if !wanted() => Outcome::Filtered,
        None => Outcome::Dropped,
        Some(call) => match IN_LOAD_PGD.insert(&bpf_get_current_pid_tgid(), &call, 0) {
            Ok(()) => Outcome::Delivered,
            Err(_) => Outcome::Dropped,
        },
    };
    count(Hook::VmxLoadPgd, &outcome);
    0
}

/// `vmwrite` of EPT_POINTER inside `vmx_load_mmu_pgd`; with shadow paging it is not reached.
#[kprobe]
pub fn eptp_write(ctx: ProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let place = VARIABLES.get(0).map_or(Field::ABSENT, |variables| variables.eptp);
    // SAFETY: copied at once; only this thread writes its own key.
    let outcome = match unsafe { IN_LOAD_PGD.get(&thread) }.copied() {
        // The call began before us, or is of a process that is not asked for.
        None => Outcome::Filtered,
        Some(call) => match read::field(ctx.as_ptr() as u64, &place) {
            // A vendor module is being loaded, and where it has the value is not known yet.
            None => Outcome::Filtered,
            Some(eptp) => report(Hook::EptpWrite, &call, eptp),
        },
    };
    let _ = IN_LOAD_PGD.remove(&thread);
    count(Hook::EptpWrite, &outcome);
    0
}

/// Entry of `svm_load_mmu_pgd(vcpu, root_hpa, root_level)`.
#[kprobe]
pub fn svm_load_mmu_pgd(ctx: ProbeContext) -> u32 {
    let outcome = match arguments(&ctx) {
        _ if !wanted() => Outcome::Filtered,
        None => Outcome::Dropped,
        Some(call) => report(Hook::SvmLoadPgd, &call, 0),
    };
    count(Hook::SvmLoadPgd, &outcome);
    0
}

#[inline(always)]
fn arguments(ctx: &ProbeContext) -> Option<Arguments> {
    Some(Arguments { vcpu: ctx.arg(0)?, others: [ctx.arg(1)?, ctx.arg(2)?, 0] })
}

#[inline(always)]
fn report(hook: Hook, call: &Arguments, written: u64) -> Outcome {
    let Some(scratch) = SCRATCH_LOAD.get_ptr_mut(0) else { return Outcome::Dropped };
    // SAFETY: an element of this CPU; the kernel runs one tracing program on a CPU at a time.
    let record = unsafe { &mut *scratch };
    let fields = &config().fields;
    let vcpu = call.vcpu;
    let mmu = vcpu::base_of_mmu_in_use(vcpu);
    record.header = header(kind::LOAD, hook);
    record.eptp = written;
    // On 5.10 the lowest bits have the guest's PCID.
    record.root_hpa = call.others[0] & eptp::ADDRESS;
    record.level = call.others[1] as u32;
    record.flags = 0;
    if vcpu::is_nested(vcpu) {
        record.flags |= flag::NESTED;
    }
    vcpu::identify(&mut record.of, vcpu);
    let missing = &mut record.of.unread;
    record.role = vcpu::member(missing, mmu, &fields.role, unread::ROLE);
    record.mmu_level = vcpu::member(missing, mmu, &fields.root_level, unread::ROOT_LEVEL) as u32;
    record.mmu_root_hpa = vcpu::member(missing, mmu, &fields.root_hpa, unread::ROOT_HPA);
    if vcpu::member(missing, mmu, &fields.ad_disabled, unread::AD_DISABLED) != 0 {
        record.flags |= flag::AD_DISABLED;
    }
    read_page_role(record);
    vcpu::read_inputs(&mut record.inputs);
    let is_nested = record.flags & flag::NESTED != 0;
    let aspect = if is_nested { Aspect::NestedRoot } else { Aspect::Root };
    let levels = u64::from(record.level) << 32 | u64::from(record.mmu_level);
    let roles = u64::from(record.page_role) << 32 | u64::from(record.of.maxphyaddr);
    // The low bits of an address are free.
    let mmu_root = record.mmu_root_hpa ^ u64::from(record.flags);
    let inputs = record.inputs.packed();
    let now = [record.eptp, record.root_hpa, mmu_root, levels, roles, inputs];
    let look =
        look_at(record, matches!(hook, Hook::SvmLoadPgd)).and(vcpu::look_at_inputs(&record.inputs));
    if_news(vcpu, aspect, &now, || vcpu::hand_over(&EVENTS, record, &look))
}

/// The role of the root's own page. A dummy root has none.
#[inline(always)]
fn read_page_role(record: &mut LoadRecord) {
    let role = page::role(record.root_hpa);
    if let Some(None) = role {
        record.flags |= flag::DUMMY_ROOT;
    }
    record.page_role = match role {
        Some(Some(role)) => role,
        _ => {
            record.of.unread |= unread::PAGE_ROLE;
            0
        }
    };
}

/// Whether root, MMU and EPTP plainly agree.
#[inline(always)]
fn look_at(record: &LoadRecord, is_svm: bool) -> Look {
    let mut need = (1 << Variable::MaxTdpLevel as u32) | (1 << Variable::TdpEnabled as u32);
    if !is_svm {
        need |= 1 << Variable::EnableEptAdBits as u32;
    }
    let inputs = &record.inputs;
    let is_tdp = inputs.value[Variable::TdpEnabled as usize] != 0;
    let is_page_missing = record.of.unread & unread::PAGE_ROLE != 0;
    // L2's table follows L1, and that of shadow paging the guest.
    if record.of.unread & !unread::PAGE_ROLE != 0
        || record.flags & (flag::NESTED | flag::DUMMY_ROOT) != 0
        || inputs.valid & need != need
        || !is_tdp
        || record.page_role & GUEST_MODE != 0
    {
        return Look::Unknown;
    }
    let level = tdp_root_level(
        inputs.value[Variable::TdpRootLevel as usize] as u8,
        inputs.value[Variable::MaxTdpLevel as usize] as u8,
        record.of.maxphyaddr as u8,
    );
    let root_agrees = record.mmu_root_hpa == record.root_hpa
        && record.mmu_level == u32::from(level)
        && record.level == u32::from(level)
        && (is_page_missing || record.page_role & 0xf == u32::from(level));
    let accessed_dirty = inputs.value[Variable::EnableEptAdBits as usize] != 0
        && record.flags & flag::AD_DISABLED == 0;
    let eptp_agrees = is_svm || record.eptp == eptp::of(record.root_hpa, level, accessed_dirty);
    if root_agrees && eptp_agrees { Look::Right } else { Look::Suspect }
}
