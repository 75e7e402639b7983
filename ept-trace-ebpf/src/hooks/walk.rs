//! The entries that a fault's address is translated by, when `kvm_mmu_page_fault` returns.
//!
//! They are read through the kernel's mapping of all physical memory, from the root down, and then
//! once more: a table that was taken out meanwhile shows in the entry above it. What else others
//! may have done to them is seen from the VM, as it was when the fault began and as it is now.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use aya_ebpf::macros::kretprobe;
use aya_ebpf::programs::RetProbeContext;
use ept_trace_common::abi::{
    Hook, KvmTracepoints, LEVELS, Variable, Variables, WalkRecord, flag, kind, unread,
};

use crate::call::{Look, Outcome, count, header};
use crate::maps::{FAULTS, Fault, IN_FAULT, SCRATCH_WALK, VARIABLES, WALKS, config};
use crate::{page, read, slots, vcpu};

/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Of an entry that leads nowhere, KVM has these three clear: R, W and X, or P, W and U.
const RIGHTS: u64 = 7;
/// NPT: not to execute.
const NX: u64 = 1 << 63;
/// Of a leaf above level 1.
const PAGE_SIZE: u64 = 1 << 7;
/// Accessed and dirty, which the CPU sets at any time: of EPT and of NPT.
const ACCESSED_DIRTY: u64 = 3 << 8 | 3 << 5;

tracepoint! {
    /// `kvmmmu:kvm_mmu_spte_requested`: the fault has a frame and a level.
    kvm_mmu_spte_requested(record) {
        count(Hook::SpteRequested, &requested(record));
    }
}

#[inline(always)]
fn requested(record: u64) -> Outcome {
    let places = VARIABLES.get(0).map_or(KvmTracepoints::ABSENT, |all| all.tracepoints);
    let Some(fault) = IN_FAULT.get_ptr_mut(&bpf_get_current_pid_tgid()) else {
        return Outcome::Filtered;
    };
    let (Some(gfn), Some(pfn), Some(level)) = (
        read::field(record, &places.requested_gfn),
        read::field(record, &places.requested_pfn),
        read::field(record, &places.requested_level),
    ) else {
        return Outcome::Dropped;
    };
    // SAFETY: only this thread writes its own key.
    let fault = unsafe { &mut *fault };
    fault.requested_gfn = gfn;
    fault.requested_pfn = pfn;
    fault.requested_level = level as u32;
    fault.flags |= flag::REQUESTED;
    Outcome::Delivered
}

/// Return of `kvm_mmu_page_fault`.
#[kretprobe]
pub fn kvm_mmu_page_fault_return(ctx: RetProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: copied at once; only this thread writes its own key.
    let outcome = match unsafe { IN_FAULT.get(&thread) } {
        // The call began before us, or is of a process that is not asked for.
        None => Outcome::Filtered,
        Some(fault) if is_chosen() => report(fault, ctx.ret::<u64>() as u32),
        Some(_) => Outcome::Filtered,
    };
    let _ = IN_FAULT.remove(&thread);
    count(Hook::PageFaultReturn, &outcome);
    0
}

/// Whether this walk is one of those that are asked for.
#[inline(always)]
fn is_chosen() -> bool {
    match config().one_walk_in {
        0 => false,
        1 => true,
        // SAFETY: a helper without arguments.
        every => unsafe { bpf_get_prandom_u32() }.is_multiple_of(every),
    }
}

#[inline(always)]
fn report(fault: &Fault, result: u32) -> Outcome {
    let Some(scratch) = SCRATCH_WALK.get_ptr_mut(0) else { return Outcome::Dropped };
    let Some(variables) = VARIABLES.get(0) else { return Outcome::Dropped };
    if variables.page_offset_base == 0 {
        // A vendor module is being loaded.
        return Outcome::Filtered;
    }
    // SAFETY: an element of this CPU; the kernel runs one tracing program on a CPU at a time.
    let record = unsafe { &mut *scratch };
    let fields = &config().fields;
    record.header = header(kind::WALK, Hook::PageFaultReturn);
    vcpu::identify(&mut record.of, fault.vcpu);
    let vm = record.of.vm;
    let missing = &mut record.of.unread;
    record.gpa = fault.gpa;
    record.error_code = fault.error_code;
    record.requested_gfn = fault.requested_gfn;
    record.requested_pfn = fault.requested_pfn;
    record.requested_level = fault.requested_level;
    record.answer = fault.answer;
    record.result = result;
    record.flags = fault.flags;
    if config().one_walk_in != 1 || config().drop_right != 0 {
        record.flags |= flag::SAMPLED;
    }
    record.root_hpa = vcpu::member(missing, fault.mmu, &fields.root_hpa, unread::ROOT_HPA);
    record.level = vcpu::member(missing, fault.mmu, &fields.root_level, unread::ROOT_LEVEL) as u32;
    if vcpu::member(missing, fault.mmu, &fields.ad_disabled, unread::AD_DISABLED) != 0 {
        record.flags |= flag::AD_DISABLED;
    }
    record.vm_type = vcpu::member(missing, vm, &fields.vm_type, unread::VM_TYPE) as u32;
    record.noncoherent_dma =
        vcpu::member(missing, vm, &fields.noncoherent_dma, unread::NONCOHERENT_DMA) as u32;
    record.mmio_value = vcpu::member(missing, vm, &fields.mmio_value, unread::MMIO_VALUE);
    record.notifier_seq = fault.notifier_seq;
    record.slots_generation = fault.slots_generation;
    let is_requested = fault.flags & flag::REQUESTED != 0;
    let gfn = if is_requested { fault.requested_gfn } else { fault.gpa >> 12 };
    record.slot_flags = match slots::flags(fault.vcpu, vm, gfn) {
        Some(flags) => flags,
        None => {
            *missing |= unread::SLOT;
            0
        }
    };
    vcpu::read_inputs(&mut record.inputs);
    if record.inputs.value[Variable::TdpEnabled as usize] == 0 {
        // With shadow paging the address is not a guest-physical one.
        return Outcome::Filtered;
    }
    read_entries(record, variables);
    look_for_races(record, fault);
    if is_old(record, fault) {
        return Outcome::Filtered;
    }
    let look = match look_at(record, variables) {
        // The decisions tell what has changed, and must not be lost behind as many walks.
        Look::Right if !matches!(vcpu::look_at_inputs(&record.inputs), Look::Right) => {
            Look::Unknown
        }
        look => look,
    };
    vcpu::hand_over(&WALKS, record, &look)
}

/// Reads the entries from the root down, and whether they stay as they are.
#[inline(always)]
fn read_entries(record: &mut WalkRecord, variables: &Variables) {
    record.count = 0;
    record.entries = [0; LEVELS];
    record.roles = [0; LEVELS];
    // SAFETY: bpf_probe_read_kernel accepts any address.
    let base = unsafe { bpf_probe_read_kernel(variables.page_offset_base as *const u64) };
    let Ok(base) = base else {
        record.of.unread |= unread::ENTRIES;
        return;
    };
    let addresses = ADDRESS & !variables.encryption_mask;
    let mut table = record.root_hpa & addresses;
    let mut level = record.level;
    for number in 0..LEVELS {
        if !(1..=LEVELS as u32).contains(&level) {
            break;
        }
        match page::role(table) {
            Some(Some(role)) => record.roles[number] = role,
            // A page that is none of KVM's tables keeps role 0, for it has no level.
            Some(None) if number == 0 => record.flags |= flag::DUMMY_ROOT,
            Some(None) => {}
            None => record.of.unread |= unread::PAGE_ROLE,
        }
        let Some(entry) = read_entry(base + table, record.gpa, level) else {
            record.of.unread |= unread::ENTRIES;
            break;
        };
        record.entries[number] = entry;
        record.count += 1;
        let is_leaf = level == 1 || (entry & PAGE_SIZE != 0 && level <= 3);
        if entry & RIGHTS == 0 || is_leaf {
            break;
        }
        table = entry & addresses;
        level -= 1;
    }
    let mut table = record.root_hpa & addresses;
    let mut level = record.level;
    for number in 0..LEVELS {
        if number >= record.count as usize {
            break;
        }
        let entry = record.entries[number];
        let again = read_entry(base + table, record.gpa, level);
        if again.is_none_or(|again| (again ^ entry) & !ACCESSED_DIRTY != 0) {
            record.flags |= flag::RACED_ENTRIES;
        }
        table = entry & addresses;
        level -= 1;
    }
}

/// Whether the fault comes back again and again, and has found in the tables what it found before.
/// Such walks are told as often as the loop.
#[inline(always)]
fn is_old(record: &WalkRecord, fault: &Fault) -> bool {
    let Some(last) = FAULTS.get_ptr_mut(&fault.vcpu) else { return false };
    // SAFETY: the element stays mapped while the program runs. Should the map have given it to
    // another vCPU meanwhile, a walk more is told, or one less.
    let last = unsafe { &mut *last };
    let is_counted = fault.flags & flag::ANSWERED != 0;
    if !is_counted || (last.gpa, last.error_code) != (fault.gpa, fault.error_code) {
        return false;
    }
    let mut walked = record.root_hpa ^ record.requested_pfn.rotate_left(20);
    walked ^= u64::from(record.requested_level) << 40 ^ u64::from(record.flags);
    for entry in record.entries {
        walked = walked.rotate_left(9) ^ entry & !ACCESSED_DIRTY;
    }
    let is_same = core::mem::replace(&mut last.walked, walked) == walked;
    is_same && last.is_loop() && !last.is_told()
}

/// The entry for an address in a table of this level.
#[inline(always)]
fn read_entry(table: u64, gpa: u64, level: u32) -> Option<u64> {
    let index = gpa >> ((3 + 9 * level) & 63) & 0x1ff;
    // SAFETY: bpf_probe_read_kernel accepts any address, and fails where there is no memory.
    unsafe { bpf_probe_read_kernel((table + index * 8) as *const u64) }.ok()
}

/// Whether the walk leads to the frame and level that the fault was resolved to, by ordinary entries
/// that allow everything.
#[inline(always)]
fn look_at(record: &WalkRecord, variables: &Variables) -> Look {
    const RACED: u32 = flag::RACED_NOTIFIER
        | flag::RACED_SLOTS
        | flag::RACED_ENTRIES
        | flag::RACED_ROOT
        | flag::DUMMY_ROOT;
    const UNREAD: u32 = unread::ENTRIES | unread::NOTIFIER | unread::SLOTS | unread::PAGE_ROLE;
    let is_ept = record.inputs.value[Variable::EnableEpt as usize] != 0;
    // Of tables what is neither rights, accessed, nor the software's; of pages the memory type, which
    // may be another, and with NPT not to execute.
    let table_clear = if is_ept { 0xf8 } else { 0x98 | NX };
    let (page_clear, page_set) = if is_ept { (1 << 3, 6 << 3) } else { (0x18 | NX, 0) };
    let addresses = ADDRESS & !variables.encryption_mask;
    // Reserved in the two upper tables of NPT.
    let root_clear = if is_ept { 0 } else { 1 << 8 };
    // What is no frame, as of MMIO, is marked by bits that no frame has.
    if record.flags & RACED != 0
        || record.flags & flag::REQUESTED == 0
        || record.requested_pfn >> 52 != 0
        || record.of.unread & UNREAD != 0
        || record.count + record.requested_level != record.level + 1
    {
        return Look::Unknown;
    }
    let mut frame = 0;
    let mut look = Look::Right;
    for number in 0..LEVELS {
        if number >= record.count as usize {
            break;
        }
        let (entry, level) = (record.entries[number], record.level - number as u32);
        if entry & RIGHTS != RIGHTS {
            return Look::Unknown;
        }
        let is_last = number + 1 == record.count as usize;
        let mut clear = variables.beyond_host;
        if !is_last {
            clear |= table_clear;
        } else if entry & page_clear != 0 || entry & page_set != page_set {
            look = Look::Unknown;
        }
        if level >= 4 {
            clear |= root_clear;
        }
        let is_large = is_last && level > 1;
        let within = (1 << ((3 + 9 * level) & 63)) - 1;
        if entry & clear != 0
            || (level > 1 && (entry & PAGE_SIZE != 0) != is_large)
            || (level == 1 && !is_ept && entry & PAGE_SIZE != 0)
            || (is_large && entry & within & ADDRESS != 0)
            || record.roles[number] & 0xf != level
        {
            return Look::Suspect;
        }
        frame = (entry & addresses & !within | record.gpa & within) >> 12;
    }
    if frame == record.requested_pfn { look } else { Look::Suspect }
}

/// Whether others were at the tables since the fault began.
#[inline(always)]
fn look_for_races(record: &mut WalkRecord, fault: &Fault) {
    let vm = record.of.vm;
    let fields = &config().fields;
    let race = &fields.race;
    match (read::field(vm, &race.notifier_in_progress), read::field(vm, &race.notifier_seq)) {
        (Some(0), Some(seq)) if seq == fault.notifier_seq => {}
        (Some(_), Some(_)) => record.flags |= flag::RACED_NOTIFIER,
        _ => record.of.unread |= unread::NOTIFIER,
    }
    match slots::generation(vm) {
        Some(generation) if generation == fault.slots_generation && !slots::are_locked(vm) => {}
        Some(_) => record.flags |= flag::RACED_SLOTS,
        None => record.of.unread |= unread::SLOTS,
    }
    if read::field(fault.mmu, &fields.root_hpa) != Some(fault.root_hpa) {
        record.flags |= flag::RACED_ROOT;
    }
}
