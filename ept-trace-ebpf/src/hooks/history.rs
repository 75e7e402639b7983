//! Changes of entries, as tracepoints tell them: `kvm_tdp_mmu_spte_changed` of the TDP MMU, and
//! `kvm_mmu_set_spte` of what else fills tables.
//!
//! Neither says whose entry it is, and the thread does not either: who reclaims memory changes the
//! entries of any VM, in the middle of a fault of another. The function that has the tracepoint in
//! it knows, and its first argument is the VM.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use ept_trace_common::abi::{Hook, SpteRecord, VmRecord, kind};

use crate::call::{Outcome, count, emit, header, wanted};
use crate::maps::{
    CHANGES, Change, HISTORY, IN_FAULT, TOLD, URGENT, VARIABLES, WANTED_VMS, config,
};
use crate::read;

/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entry of `kvm_arch_init_vm(kvm, ...)`: from here on everything of this VM is seen.
#[kprobe]
pub fn kvm_arch_init_vm(ctx: ProbeContext) -> u32 {
    let outcome = match ctx.arg::<u64>(0) {
        _ if !wanted() => Outcome::Filtered,
        Some(vm) => {
            let _ = WANTED_VMS.insert(&vm, &0, 0);
            emit(&URGENT, &VmRecord { header: header(kind::VM, Hook::InitVm), vm })
        }
        None => Outcome::Dropped,
    };
    count(Hook::InitVm, &outcome);
    0
}

/// Entry of `handle_changed_spte(kvm, as_id, gfn, old_spte, ...)`.
#[kprobe]
pub fn handle_changed_spte(ctx: ProbeContext) -> u32 {
    count(Hook::ChangedSpte, &remember(&ctx));
    0
}

/// Entry of `__handle_changed_spte`, with the same arguments.
#[kprobe]
pub fn handle_changed_spte_inner(ctx: ProbeContext) -> u32 {
    count(Hook::ChangedSpteInner, &remember(&ctx));
    0
}

#[inline(always)]
fn remember(ctx: &ProbeContext) -> Outcome {
    let (Some(vm), Some(gfn), Some(old)) = (ctx.arg(0), ctx.arg(2), ctx.arg(3)) else {
        return Outcome::Dropped;
    };
    match CHANGES.insert(&[bpf_get_current_pid_tgid(), old], &Change { vm, gfn }, 0) {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Dropped,
    }
}

tracepoint! {
    /// `kvmmmu:kvm_tdp_mmu_spte_changed`.
    kvm_tdp_mmu_spte_changed(record) {
        count(Hook::SpteChanged, &changed(record).unwrap_or(Outcome::Dropped));
    }
}

#[inline(always)]
fn changed(record: u64) -> Option<Outcome> {
    let places = &VARIABLES.get(0)?.tracepoints;
    let gfn = read::field(record, &places.changed_gfn)?;
    let old = read::field(record, &places.changed_old)?;
    let new = read::field(record, &places.changed_new)?;
    let thread = bpf_get_current_pid_tgid();
    let mut vm = 0;
    // SAFETY: copied at once; only this thread writes its own keys.
    match unsafe { CHANGES.get(&[thread, old]) } {
        Some(change) if change.gfn == gfn => {
            vm = change.vm;
            let _ = CHANGES.remove(&[thread, old]);
        }
        // It is told without that function: marks of use are taken away so.
        _ => {}
    }
    let _ = TOLD.insert(&thread, &[gfn, new], 0);
    if !is_wanted(vm) {
        return Some(Outcome::Filtered);
    }
    let record = SpteRecord {
        header: header(kind::SPTE, Hook::SpteChanged),
        vm,
        gfn,
        old,
        new,
        place: 0,
        level: read::field(record, &places.changed_level)? as u32,
        as_id: read::field(record, &places.changed_as_id)? as u32,
    };
    Some(emit(&HISTORY, &record))
}

tracepoint! {
    /// `kvmmmu:kvm_mmu_set_spte`.
    kvm_mmu_set_spte(record) {
        count(Hook::SpteSet, &set(record).unwrap_or(Outcome::Dropped));
    }
}

#[inline(always)]
fn set(record: u64) -> Option<Outcome> {
    let places = &VARIABLES.get(0)?.tracepoints;
    let gfn = read::field(record, &places.set_gfn)?;
    let new = read::field(record, &places.set_spte)?;
    let thread = bpf_get_current_pid_tgid();
    // The TDP MMU has told it already, with more.
    // SAFETY: read at once; only this thread writes its own key.
    if let Some([told_gfn, told]) = unsafe { TOLD.get(&thread) }
        && *told_gfn == gfn
        && (told ^ new) & ADDRESS == 0
    {
        return Some(Outcome::Filtered);
    }
    // It is a fault that sets it, and not what happens meanwhile.
    // SAFETY: as above.
    let vcpu = unsafe { IN_FAULT.get(&thread) }.map_or(0, |fault| fault.vcpu);
    let vm = read::field(vcpu, &config().fields.kvm).unwrap_or(0);
    if !is_wanted(vm) {
        return Some(Outcome::Filtered);
    }
    let record = SpteRecord {
        header: header(kind::SPTE, Hook::SpteSet),
        vm,
        gfn,
        old: 0,
        new,
        place: read::field(record, &places.set_place)?,
        level: read::field(record, &places.set_level)? as u32,
        as_id: 0,
    };
    Some(emit(&HISTORY, &record))
}

/// Whether a VM is of the process that is asked for; of one that is not known, its thread tells.
#[inline(always)]
fn is_wanted(vm: u64) -> bool {
    match vm {
        _ if config().filter_tgid == 0 => true,
        0 => wanted(),
        // SAFETY: only whether there is one counts.
        vm => unsafe { WANTED_VMS.get(&vm) }.is_some(),
    }
}
