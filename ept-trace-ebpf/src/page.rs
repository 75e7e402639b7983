//! From a page table page to what KVM keeps of it.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use ept_trace_common::abi::ABSENT;

use crate::maps::{VARIABLES, config};
use crate::read;

/// `kvm_mmu_page_role` of the page at an address: `private` of its `struct page` points to the
/// `kvm_mmu_page`. `None` where that cannot be read, and `Some(None)` if the page is none of KVM's.
#[inline(always)]
pub fn role(hpa: u64) -> Option<Option<u32>> {
    let config = config();
    let variables = VARIABLES.get(0)?;
    if variables.vmemmap_base == 0 || config.struct_page_size == ABSENT {
        return None;
    }
    // SAFETY: bpf_probe_read_kernel accepts any address.
    let vmemmap = unsafe { bpf_probe_read_kernel(variables.vmemmap_base as *const u64) }.ok()?;
    let page = vmemmap + (hpa >> 12) * u64::from(config.struct_page_size);
    match read::field(page, &config.fields.page_private)? {
        0 => Some(None),
        shadow_page => read::field(shadow_page, &variables.page_role).map(|role| Some(role as u32)),
    }
}
