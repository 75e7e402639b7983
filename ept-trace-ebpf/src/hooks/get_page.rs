//! Tracepoint `kvmmmu:kvm_mmu_get_page`: a page table page is taken into use.
//!
//! Of these only roots are reported: pages of the level that the vCPU's root MMU has, or above.
//! With 3 levels the root itself is no such page: its four entries point to pages of level 2.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use ept_trace_common::abi::{Hook, RootRecord, Subject, kind, unread};

use crate::call::{Outcome, count, emit, header};
use crate::maps::{EVENTS, IN_IOCTL, config};
use crate::{read, vcpu};

tracepoint! {
    /// `kvmmmu:kvm_mmu_get_page`.
    kvm_mmu_get_page(record) {
        count(Hook::GetPage, &report(record));
    }
}

#[inline(always)]
fn report(record: u64) -> Outcome {
    // SAFETY: copied at once; only this thread writes its own key.
    let Some(call) = (unsafe { IN_IOCTL.get(&bpf_get_current_pid_tgid()) }).copied() else {
        return Outcome::Filtered;
    };
    if call.vcpu == 0 {
        // Not an ioctl on a vCPU.
        return Outcome::Filtered;
    }
    let fields = &config().fields;
    let places = &config().tracepoints;
    let (Some(role), Some(gfn), Some(root_level)) = (
        read::field(record, &places.page_role),
        read::field(record, &places.page_gfn),
        read::field(call.vcpu, &fields.root_level),
    ) else {
        return Outcome::Dropped;
    };
    // kvm_mmu_page_role: the level is in the four lowest bits on every kernel.
    let page_level = if root_level == 3 { 2 } else { root_level };
    if role & 0xf < page_level {
        return Outcome::Filtered;
    }
    let mut record = RootRecord {
        header: header(kind::ROOT, Hook::GetPage),
        of: Subject::default(),
        gfn,
        role: role as u32,
        root_level: root_level as u32,
    };
    vcpu::identify(&mut record.of, call.vcpu);
    if record.of.unread & unread::VM != 0 {
        return Outcome::Dropped;
    }
    emit(&EVENTS, &record)
}
