//! `kvm_configure_mmu(...)`: the vendor module tells kvm what the TDP can do.

use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use ept_trace_common::abi::{ConfigureRecord, Hook, Variables, kind};

use crate::call::{count, emit, header};
use crate::maps::{URGENT, VARIABLES};

/// Entry of `kvm_configure_mmu`.
#[kprobe]
pub fn kvm_configure_mmu(ctx: ProbeContext) -> u32 {
    // A vendor module is being loaded, perhaps in the place of another: the addresses known so
    // far may be another module's by now. Userspace puts the new ones in once it is loaded.
    let _ = VARIABLES.set(0, &Variables::UNKNOWN, 0);
    let arg = |n| ctx.arg::<u64>(n).unwrap_or(0);
    let record = ConfigureRecord {
        header: header(kind::CONFIGURE_MMU, Hook::ConfigureMmu),
        args: [arg(0), arg(1), arg(2), arg(3)],
    };
    count(Hook::ConfigureMmu, &emit(&URGENT, &record));
    0
}
