//! What became of every call of every hook.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::{NonNull, null_mut};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::Map;
use aya::programs::Program;
use aya::util::nr_cpus;
use aya_obj::generated::{bpf_cmd, bpf_prog_info};
use ept_trace_common::abi::{Counters, Hook};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The counters, mapped: reading them is no business of the kernel's.
#[derive(Debug)]
pub(super) struct MappedCounters {
    start: NonNull<Counters>,
    entries: usize,
}

// SAFETY: memory of the process, which is read and never written; whose thread reads it is all one.
unsafe impl Send for MappedCounters {}

impl MappedCounters {
    /// How many the map must have: one for each CPU and hook.
    pub(super) fn entries() -> Result<u32> {
        let cpus = nr_cpus().map_err(|(path, err)| anyhow!("{path}: {err}"))?;
        Ok(u32::try_from(cpus * Hook::ALL.len())?)
    }

    /// Maps the map.
    pub(super) fn new(map: &Map) -> Result<Self> {
        let Map::Array(data) = map else { bail!("it is no array") };
        let entries = Self::entries()? as usize;
        let length = entries * size_of::<Counters>();
        // SAFETY: a new mapping, at a place of the kernel's choice, of a file that does not shrink.
        let start = unsafe {
            mmap(null_mut(), length, ProtFlags::READ, MapFlags::SHARED, data.fd().as_fd(), 0)
        }?;
        let start = NonNull::new(start.cast()).context("mapped at address 0")?;
        Ok(Self { start, entries })
    }

    /// Sums a hook's counters over all CPUs.
    pub(super) fn read(&self, hook: Hook) -> Counters {
        let of_hook = (hook as usize..self.entries).step_by(Hook::ALL.len());
        of_hook.fold(Counters::default(), |sum, entry| {
            // SAFETY: within the mapping, and aligned as the kernel aligns its elements; volatile, for
            // the kernel side writes meanwhile.
            let cpu = unsafe { self.start.add(entry).read_volatile() };
            Counters {
                fired: sum.fired + cpu.fired,
                delivered: sum.delivered + cpu.delivered,
                filtered: sum.filtered + cpu.filtered,
                dropped: sum.dropped + cpu.dropped,
            }
        })
    }
}

impl Drop for MappedCounters {
    fn drop(&mut self) {
        // SAFETY: what was mapped, with the length that it was mapped with; nothing borrows from it.
        // That it could fail is not known, and would only leave it there.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.entries * size_of::<Counters>()) };
    }
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
