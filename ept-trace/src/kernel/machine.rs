//! The hardware and the host's own paging, asked without KVM.

use std::arch::x86_64::__cpuid;
use std::ptr;

use crate::kernel::msr::{self, Msrs};
use crate::model::{Fact, Hardware};

/// Asks the hardware.
pub fn hardware() -> Hardware {
    let msrs = Msrs::open(0).map_err(|err| format!("{err:#}"));
    let fact = |value: Result<u64, String>| match value {
        Ok(value) => Fact::known(value, "/dev/cpu/0/msr"),
        Err(why) => Fact::unknown(why),
    };
    let read = |get: fn(&Msrs) -> anyhow::Result<u64>| {
        let msrs = msrs.as_ref().map_err(Clone::clone)?;
        get(msrs).map_err(|err| format!("{err:#}"))
    };
    Hardware {
        ept_vpid_cap: fact(read(Msrs::ept_vpid_cap)),
        offers_ept: fact(read(|msrs| msrs.offers_ept().map(u64::from))).map(|bit| bit != 0),
        differing_ept_vpid_cap: differing(msrs.as_ref().ok()),
        host_la57: host_la57(),
        maxphyaddr: maxphyaddr(),
    }
}

/// CPUs that say something else of EPT than the first.
fn differing(first: Option<&Msrs>) -> Vec<(u32, u64)> {
    let Some(Ok(first)) = first.map(Msrs::ept_vpid_cap) else { return Vec::new() };
    let read = |cpu| Some((cpu, Msrs::open(cpu).ok()?.ept_vpid_cap().ok()?));
    msr::cpus().into_iter().filter_map(read).filter(|(_, value)| *value != first).collect()
}

/// Width of physical addresses in bits: CPUID 0x80000008 EAX bits 7:0, SDM Vol. 3A §4.1.4.
fn maxphyaddr() -> Fact<u8> {
    if __cpuid(0x80000000).eax < 0x80000008 {
        return Fact::unknown("this CPU has no CPUID leaf 0x80000008");
    }
    Fact::known(__cpuid(0x80000008).eax.to_le_bytes()[0], "CPUID 0x80000008")
}

/// Whether this kernel runs with 5-level paging.
///
/// `/proc/cpuinfo` does not tell: the flag `la57` means the CPU on some kernels and the paging in
/// use on others. A mapping above 2^47, asked for by its address, is only had with 5 levels.
fn host_la57() -> Fact<bool> {
    let page = 4096;
    let hint = ptr::without_provenance_mut(1 << 50);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice; nothing is overlaid
    // without MAP_FIXED.
    let got = unsafe { libc::mmap(hint, page, libc::PROT_NONE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return Fact::unknown(format!("mmap: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: mapped just above, and nobody else knows of it.
    unsafe { libc::munmap(got, page) };
    Fact::known(got.addr() >= 1 << 47, "a mapping asked for above 2^47")
}
