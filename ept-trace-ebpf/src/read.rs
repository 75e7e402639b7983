//! Reading kernel memory by the offsets that were handed down.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use ept_trace_common::abi::{ABSENT, Field};

/// Reads a member of the structure at `base`; `None` if the kernel has no such member or the
/// memory cannot be read.
#[inline(always)]
pub fn field(base: u64, field: &Field) -> Option<u64> {
    let address = address_of(base, field)?;
    // SAFETY: bpf_probe_read_kernel accepts any address and fails where there is no memory.
    let value = unsafe {
        match field.size {
            1 => u64::from(bpf_probe_read_kernel(address as *const u8).ok()?),
            2 => u64::from(bpf_probe_read_kernel(address as *const u16).ok()?),
            4 => u64::from(bpf_probe_read_kernel(address as *const u32).ok()?),
            _ => bpf_probe_read_kernel(address as *const u64).ok()?,
        }
    };
    if field.width == 0 {
        return Some(value);
    }
    Some((value >> (field.shift & 63)) & ((1 << (field.width & 63)) - 1))
}

/// The address of a member.
#[inline(always)]
pub fn address_of(base: u64, field: &Field) -> Option<u64> {
    (base != 0 && field.offset != ABSENT).then(|| base + u64::from(field.offset))
}
