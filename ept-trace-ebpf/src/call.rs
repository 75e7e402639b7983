//! One call of a hook: whether it is asked for, what is made of it, and what becomes of its record.

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_ns_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use aya_ebpf::maps::RingBuf;
use ept_trace_common::abi::{Header, Hook, Plain};

use crate::maps::{COUNTERS, HOOKS, config};

/// What became of one call.
pub enum Outcome {
    Delivered,
    Filtered,
    Dropped,
}

/// What the kernel side makes of a record before it hands it over. Userspace judges by itself.
pub enum Look {
    /// Plainly right: with `--mismatches` it is dropped here.
    Right,
    /// Plainly wrong, or the machine is no longer as it was judged: it must not be lost behind others.
    Suspect,
    /// Something that it takes to tell could not be read.
    Unknown,
}

impl Look {
    /// Both of them.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Suspect, _) | (_, Self::Suspect) => Self::Suspect,
            (Self::Right, Self::Right) => Self::Right,
            _ => Self::Unknown,
        }
    }
}

/// Counts one call of a hook.
#[inline(always)]
pub fn count(hook: Hook, outcome: &Outcome) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = COUNTERS.get_ptr_mut(cpu * HOOKS + hook as u32) {
        // SAFETY: an element of this CPU; the kernel runs one tracing program on a CPU at a time.
        let counters = unsafe { &mut *counters };
        counters.fired += 1;
        match outcome {
            Outcome::Delivered => counters.delivered += 1,
            Outcome::Filtered => counters.filtered += 1,
            Outcome::Dropped => counters.dropped += 1,
        }
    }
}

/// Whether the current process is one that is asked for.
#[inline(always)]
pub fn wanted() -> bool {
    let config = config();
    if config.filter_tgid == 0 {
        return true;
    }
    if config.pidns_ino == 0 {
        // A kernel without pid namespaces has its own numbers alone.
        return (bpf_get_current_pid_tgid() >> 32) as u32 == config.filter_tgid;
    }
    // By the numbers of the namespace that the filter was given in: in a container they are not
    // the kernel's own.
    let mut here = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the helper writes to `here` alone, whose size it is given.
    let result = unsafe {
        bpf_get_ns_current_pid_tgid(
            config.pidns_dev,
            config.pidns_ino,
            &raw mut here,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    result == 0 && here.tgid == config.filter_tgid
}

/// The head of a record made now.
#[inline(always)]
pub fn header(kind: u32, hook: Hook) -> Header {
    let pid_tgid = bpf_get_current_pid_tgid();
    Header {
        kind,
        hook: hook as u32,
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
    }
}

/// Puts a record into a ring.
#[inline(always)]
pub fn emit<T: Plain>(ring: &RingBuf, record: &T) -> Outcome {
    match ring.output::<T>(record, 0) {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Dropped,
    }
}
