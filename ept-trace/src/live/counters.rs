//! What became of every call of every hook.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Result;
use aya::programs::Program;
use aya_obj::generated::{bpf_cmd, bpf_prog_info};
use ept_trace_common::abi::{Counters, Hook};

use super::object::Object;

/// Sums a hook's counters over all CPUs.
pub(super) fn read(object: &Object, hook: Hook) -> Result<Counters> {
    let per_cpu = object.counters()?.get(&(hook as u32), 0)?;
    Ok(per_cpu.iter().fold(Counters::default(), |sum, cpu| Counters {
        fired: sum.fired + cpu.0.fired,
        delivered: sum.delivered + cpu.0.delivered,
        filtered: sum.filtered + cpu.0.filtered,
        dropped: sum.dropped + cpu.0.dropped,
    }))
}

/// How often the kernel skipped a program because one was already running on that CPU:
/// `recursion_misses`, which counts kprobe and tracepoint programs from 6.7 on, and is 0 before.
pub(super) fn recursion_misses(program: &Program) -> u64 {
    /// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads.
    #[repr(C)]
    struct GetInfo {
        fd: u32,
        length: u32,
        info: u64,
    }
    let Ok(fd) = program.fd() else { return 0 };
    // SAFETY: a C structure of integers, for which all zeroes is a valid value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let attr = GetInfo {
        fd: fd.as_fd().as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<bpf_prog_info>()).unwrap_or_default(),
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`, which lives until after.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
            &raw const attr,
            size_of::<GetInfo>(),
        )
    };
    if done < 0 { 0 } else { info.recursion_misses }
}
