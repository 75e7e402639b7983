//! What is captured of a vCPU: the inputs of the decision and its outcome.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::maps::RingBuf;
use ept_trace_common::abi::{
    ABSENT, DecisionRecord, Field, Hook, Inputs, MmuState, Plain, Subject, Variable, flag, handler,
    kind, unread,
};
use ept_trace_common::decision::{X86_TDX_VM, query_maxphyaddr, shadow_root_level, tdp_root_level};

use crate::call::{Look, Outcome, emit, header};
use crate::maps::{Aspect, EVENTS, SCRATCH, URGENT, VARIABLES, config, forget, if_news};
use crate::read;

/// Size of `struct kvm_cpuid_entry2`, which is ABI.
const CPUID_ENTRY_SIZE: u64 = 40;
/// `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`, also ABI.
const SIGNIFICANT_INDEX: u32 = 1;
/// `KVM_MAX_CPUID_ENTRIES` of the newest kernels (80 before 5.11).
const MAX_CPUID_ENTRIES: u32 = 256;

/// The root MMU of a vCPU now.
#[inline(always)]
pub fn mmu_state(vcpu: u64) -> MmuState {
    let fields = &config().fields;
    MmuState {
        role: read::field(vcpu, &fields.role).unwrap_or(0),
        cpu_role: read::field(vcpu, &fields.cpu_role).unwrap_or(0),
        root_level: read::field(vcpu, &fields.root_level).unwrap_or(0) as u32,
        direct: read::field(vcpu, &fields.direct).unwrap_or(0) as u32,
        handler: fault_handler(vcpu),
        reserved: 0,
    }
}

/// Which function serves the faults of the root MMU.
#[inline(always)]
fn fault_handler(vcpu: u64) -> u32 {
    let Some(variables) = VARIABLES.get(0) else { return handler::UNKNOWN };
    match read::field(vcpu, &config().fields.page_fault) {
        Some(1..) if variables.tdp_page_fault == 0 => handler::UNKNOWN,
        Some(function @ 1..) if function == variables.tdp_page_fault => handler::TDP,
        Some(1..) => handler::OTHER,
        _ => handler::UNKNOWN,
    }
}

/// Where the members of the MMU in use are, as if it were the vCPU's root MMU. Offsets of members
/// are from the vCPU: with `root_mmu` at 100 and its role at 180, the role of an MMU at 0x5000 is at
/// `(0x5000 - 100) + 180`, and the first sum is what this returns.
#[inline(always)]
pub fn base_of_mmu_in_use(vcpu: u64) -> u64 {
    let fields = &config().fields;
    match read::field(vcpu, &fields.mmu) {
        Some(mmu) if fields.root_mmu.offset != ABSENT => mmu - u64::from(fields.root_mmu.offset),
        _ => 0,
    }
}

/// The same for `arch.guest_mmu`.
#[inline(always)]
pub fn base_of_guest_mmu(vcpu: u64) -> u64 {
    let fields = &config().fields;
    match read::address_of(vcpu, &fields.guest_mmu) {
        Some(mmu) if fields.root_mmu.offset != ABSENT => mmu - u64::from(fields.root_mmu.offset),
        _ => 0,
    }
}

/// Whether L2 runs on nested TDP: `arch.mmu` points to `arch.guest_mmu`.
#[inline(always)]
pub fn is_nested(vcpu: u64) -> bool {
    let fields = &config().fields;
    match (read::field(vcpu, &fields.mmu), read::address_of(vcpu, &fields.guest_mmu)) {
        (Some(mmu), Some(guest_mmu)) => mmu == guest_mmu,
        _ => false,
    }
}

/// Captures the vCPU as it is now and hands the record to userspace.
#[inline(always)]
pub fn report_decision(hook: Hook, vcpu: u64, flags: u64, before: &MmuState) -> Outcome {
    // In map memory, which the verifier does not follow: on the stack, every member that may or
    // may not be readable would double the states that it has to walk through.
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Outcome::Dropped };
    // SAFETY: an element of this CPU; the kernel runs one tracing program on a CPU at a time.
    let record = unsafe { &mut *scratch };
    let fields = &config().fields;
    record.header = header(kind::DECISION, hook);
    record.flags = flags as u32;
    record.before = *before;
    record.after.handler = fault_handler(vcpu);
    identify(&mut record.of, vcpu);
    let unread = &mut record.of.unread;
    record.cr4 = member(unread, vcpu, &fields.cr4, unread::CR4);
    record.efer = member(unread, vcpu, &fields.efer, unread::EFER);
    record.after.role = member(unread, vcpu, &fields.role, unread::ROLE);
    record.after.cpu_role = member(unread, vcpu, &fields.cpu_role, unread::CPU_ROLE);
    record.after.root_level = member(unread, vcpu, &fields.root_level, unread::ROOT_LEVEL) as u32;
    record.after.direct = member(unread, vcpu, &fields.direct, unread::DIRECT) as u32;
    record.cpuid_nent = member(unread, vcpu, &fields.cpuid_nent, unread::CPUID_NENT) as u32;
    record.vm_type = member(unread, record.of.vm, &fields.vm_type, unread::VM_TYPE) as u32;
    read_inputs(&mut record.inputs);
    read_cpuid(vcpu, record);
    let look = look_at(record).and(look_at_inputs(&record.inputs));
    if record.flags & flag::NESTED == 0 {
        forget(vcpu);
        return hand_over(&EVENTS, record, &look);
    }
    let (before, after) = (&record.before, &record.after);
    let inputs = record.inputs.packed();
    let level = u64::from(after.root_level);
    let now = [before.role, after.role, level, record.cr4, record.efer, inputs];
    if_news(vcpu, Aspect::NestedDecision, &now, || hand_over(&EVENTS, record, &look))
}

/// Hands a record over as it looks: what is wrong goes the way that noise does not go.
#[inline(always)]
pub fn hand_over<T: Plain>(ring: &RingBuf, record: &T, look: &Look) -> Outcome {
    match look {
        Look::Right if config().drop_right != 0 => Outcome::Filtered,
        Look::Right | Look::Unknown => emit(ring, record),
        Look::Suspect => match emit(&URGENT, record) {
            Outcome::Dropped => emit(ring, record),
            outcome => outcome,
        },
    }
}

/// Which vCPU a record is about, in place.
#[inline(always)]
pub fn identify(of: &mut Subject, vcpu: u64) {
    let fields = &config().fields;
    let mut unread = 0;
    of.vcpu = vcpu;
    of.vm = member(&mut unread, vcpu, &fields.kvm, unread::VM);
    of.creator = member(&mut unread, of.vm, &fields.userspace_pid, unread::CREATOR) as u32;
    of.vcpu_id = member(&mut unread, vcpu, &fields.vcpu_id, unread::VCPU_ID) as u32;
    of.maxphyaddr = member(&mut unread, vcpu, &fields.maxphyaddr, unread::MAXPHYADDR) as u32;
    of.unread = unread;
}

/// Reads a member; 0 and the bit of `unread` where that fails.
#[inline(always)]
pub fn member(unread: &mut u32, base: u64, field: &Field, bit: u32) -> u64 {
    match read::field(base, field) {
        Some(value) => value,
        None => {
            *unread |= bit;
            0
        }
    }
}

/// KVM's own variables, each as far as its address is known.
#[inline(always)]
pub fn read_inputs(inputs: &mut Inputs) {
    *inputs = Inputs { valid: 0, value: [0; Variable::COUNT] };
    let Some(variables) = VARIABLES.get(0) else { return };
    let mut read_variable = |variable: Variable| {
        let index = variable as usize;
        let place = Field { size: variable.size() as u8, ..Field { offset: 0, ..Field::ABSENT } };
        if let Some(value) = read::field(variables.address[index], &place) {
            inputs.value[index] = value as u32;
            inputs.valid |= 1 << index;
        }
    };
    read_variable(Variable::TdpEnabled);
    read_variable(Variable::MaxTdpLevel);
    read_variable(Variable::TdpRootLevel);
    read_variable(Variable::EnableEpt);
    read_variable(Variable::VmxCapabilityEpt);
    read_variable(Variable::NptEnabled);
    read_variable(Variable::EnableEptAdBits);
}

/// Whether the variables are still those that were judged when the machine was read.
#[inline(always)]
pub fn look_at_inputs(inputs: &Inputs) -> Look {
    let Some(variables) = VARIABLES.get(0) else { return Look::Unknown };
    let judged = &variables.judged;
    let mut look = Look::Right;
    let mut index = 0;
    while index < Variable::COUNT {
        let is_read = inputs.valid & (1 << index) != 0;
        let is_judged = judged.valid & (1 << index) != 0;
        if is_read && !is_judged {
            look = Look::Unknown;
        } else if is_read && inputs.value[index] != judged.value[index] {
            return Look::Suspect;
        }
        index += 1;
    }
    look
}

/// Finds the leaves 0x80000000 and 0x80000008 among the entries that KVM holds for the vCPU.
#[inline(always)]
fn read_cpuid(vcpu: u64, record: &mut DecisionRecord) {
    record.leaf_80000000_eax = 0;
    record.leaf_80000008_eax = 0;
    let fields = &config().fields;
    if fields.cpuid_entries.offset == ABSENT || fields.cpuid_nent.offset == ABSENT {
        return;
    }
    let entries = if config().cpuid_embedded != 0 {
        read::address_of(vcpu, &fields.cpuid_entries)
    } else {
        read::field(vcpu, &fields.cpuid_entries)
    };
    let Some(entries) = entries else { return };
    for number in 0..MAX_CPUID_ENTRIES {
        if number >= record.cpuid_nent {
            break;
        }
        let entry = entries + u64::from(number) * CPUID_ENTRY_SIZE;
        // SAFETY: bpf_probe_read_kernel accepts any address; function, index, flags, eax.
        let Ok([function, index, flags, eax]) =
            (unsafe { bpf_probe_read_kernel(entry as *const [u32; 4]) })
        else {
            return;
        };
        // As kvm_find_cpuid_entry: an index counts only where it is said to.
        if flags & SIGNIFICANT_INDEX != 0 && index != 0 {
            continue;
        }
        if function == 0x80000000 && record.flags & flag::LEAF_80000000 == 0 {
            record.leaf_80000000_eax = eax;
            record.flags |= flag::LEAF_80000000;
        }
        if function == 0x80000008 && record.flags & flag::LEAF_80000008 == 0 {
            record.leaf_80000008_eax = eax;
            record.flags |= flag::LEAF_80000008;
        }
    }
    if record.cpuid_nent <= MAX_CPUID_ENTRIES && record.of.unread & unread::CPUID_NENT == 0 {
        record.flags |= flag::CPUID_READ;
    }
}

/// Whether the decision, replayed here on the kernel's own inputs, gives what the kernel chose.
#[inline(always)]
fn look_at(record: &DecisionRecord) -> Look {
    let need = (1 << Variable::TdpEnabled as u32) | (1 << Variable::MaxTdpLevel as u32);
    let inputs = &record.inputs;
    if record.flags & flag::NESTED != 0 {
        // L2 runs: the root MMU must be left as it was.
        let (before, after) = (&record.before, &record.after);
        let is_kept = before.role == after.role && before.root_level == after.root_level;
        let is_read = record.flags & flag::BEFORE_READ != 0;
        return if is_read && !is_kept { Look::Suspect } else { Look::Right };
    }
    let is_tdx = record.vm_type == X86_TDX_VM;
    if inputs.valid & need != need || is_tdx {
        return Look::Unknown;
    }
    let leaf = |bit, eax| (record.flags & bit != 0).then_some(eax);
    let maxphyaddr = query_maxphyaddr(
        leaf(flag::LEAF_80000000, record.leaf_80000000_eax),
        leaf(flag::LEAF_80000008, record.leaf_80000008_eax),
    );
    let is_tdp = inputs.value[Variable::TdpEnabled as usize] != 0;
    let (level, other_handler) = if is_tdp {
        let forced = inputs.value[Variable::TdpRootLevel as usize] as u8;
        let max = inputs.value[Variable::MaxTdpLevel as usize] as u8;
        (tdp_root_level(forced, max, maxphyaddr), handler::OTHER)
    } else if record.of.unread & (unread::CR4 | unread::EFER) == 0 {
        (shadow_root_level(record.cr4, record.efer), handler::TDP)
    } else {
        return Look::Unknown;
    };
    let is_right = record.of.maxphyaddr == u32::from(maxphyaddr)
        && record.after.root_level == u32::from(level)
        && record.after.handler != other_handler
        && (record.after.direct == 1 || !is_tdp);
    // The guest may have addresses that its root does not map, which is told although it is legal.
    let may_be_out_of_reach = is_tdp && maxphyaddr > 48 && level == 4;
    match (is_right, may_be_out_of_reach) {
        (false, _) => Look::Suspect,
        (true, true) => Look::Unknown,
        (true, false) => Look::Right,
    }
}
