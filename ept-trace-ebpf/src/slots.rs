//! The memslots of a VM.

use ept_trace_common::abi::ABSENT;

use crate::maps::config;
use crate::read;

/// `KVM_USER_MEM_SLOTS` of the kernels whose memslots are an array.
const MAX_SLOTS: u32 = 512;

/// Generation of the memslots: another one after each change.
#[inline(always)]
pub fn generation(vm: u64) -> Option<u64> {
    let race = &config().fields.race;
    read::field(read::field(vm, &race.memslots)?, &race.generation)
}

/// Whether somebody works on the memslots, or on what follows from a change of them: dirty logging
/// that is switched on or off goes through all tables after the generation has changed.
#[inline(always)]
pub fn are_locked(vm: u64) -> bool {
    read::field(vm, &config().fields.race.slots_lock).is_some_and(|owner| owner != 0)
}

/// `flags` of the memslot that has a frame of the guest.
#[inline(always)]
pub fn flags(vcpu: u64, vm: u64, gfn: u64) -> Option<u32> {
    let race = &config().fields.race;
    if race.last_used_slot.offset != ABSENT {
        // The fault has looked for it, and so left it here.
        return flags_if(read::field(vcpu, &race.last_used_slot)?, gfn);
    }
    let size = config().memslot_size;
    if size == ABSENT {
        return None;
    }
    let memslots = read::field(vm, &race.memslots)?;
    let used = read::field(memslots, &race.used_slots)? as u32;
    let first = read::address_of(memslots, &race.slots)?;
    for number in 0..MAX_SLOTS {
        if number >= used {
            break;
        }
        if let Some(flags) = flags_if(first + u64::from(number) * u64::from(size), gfn) {
            return Some(flags);
        }
    }
    None
}

#[inline(always)]
fn flags_if(slot: u64, gfn: u64) -> Option<u32> {
    let race = &config().fields.race;
    let base = read::field(slot, &race.slot_base)?;
    let pages = read::field(slot, &race.slot_pages)?;
    (gfn.wrapping_sub(base) < pages)
        .then(|| read::field(slot, &race.slot_flags))?
        .map(|flags| flags as u32)
}
