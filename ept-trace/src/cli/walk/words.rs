//! Exit qualifications and EXITINFO1 in words.

use crate::ept::{NestedFault, Step, Violation};

/// The bits of the exit qualification of an EPT violation (SDM table 30-7); those that are not
/// defined are left out.
pub(super) fn qualification(violation: &Violation) -> Vec<String> {
    let Violation { qualification, mask, .. } = *violation;
    let is = |bit: u32| mask >> bit & 1 != 0 && qualification >> bit & 1 != 0;
    let named = |bits: &[(u32, &str)]| -> Vec<String> {
        bits.iter().filter(|(bit, _)| is(*bit)).map(|(_, name)| (*name).to_owned()).collect()
    };
    let mut words = named(&[(0, "data read"), (1, "data write"), (2, "instruction fetch")]);
    let allowed = named(&[(3, "read"), (4, "write"), (5, "execute"), (6, "user execute")]);
    words.push(if allowed.is_empty() {
        "the entries allow nothing".to_owned()
    } else {
        format!("the entries allow {}", allowed.join(", "))
    });
    if is(7) {
        let of = if is(8) { "its translation" } else { "a guest paging-structure access" };
        words.push(format!("linear address valid, {of}"));
    }
    words.extend(named(&[
        (9, "user page of the guest"),
        (10, "writable in the guest"),
        (11, "execute-disabled in the guest"),
        (12, "NMI unblocking by IRET"),
        (13, "shadow-stack access"),
        (14, "supervisor shadow-stack page"),
        (15, "guest-paging verification"),
        (16, "asynchronous"),
    ]));
    words
}

/// The bits of EXITINFO1 of a nested page fault (AMD); those that cannot be relied on are left
/// out.
pub(super) fn exitinfo1(fault: &NestedFault) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 8] = [
        (1, "write"),
        (2, "user"),
        (3, "reserved bits"),
        (4, "instruction fetch"),
        (6, "shadow stack"),
        (32, "final translation"),
        (33, "guest table"),
        (37, "supervisor shadow stack"),
    ];
    let is = |bit: u32| fault.mask >> bit & 1 != 0 && fault.exitinfo1 >> bit & 1 != 0;
    let mut words = vec![if is(0) { "present" } else { "not present" }];
    words.extend(NAMES.iter().filter(|(bit, _)| is(*bit)).map(|(_, name)| *name));
    words
}

/// The size of a page of a level from 1 to 3.
pub(super) fn page_size(level: u8) -> &'static str {
    match level {
        1 => "4K",
        2 => "2M",
        _ => "1G",
    }
}

/// Whether a misconfigured EPT entry is one that KVM makes on purpose, to be told of accesses to
/// a device: writable and executable, and not readable (KVM's `kvm_mmu_set_ept_masks`). It maps
/// what is in no memory slot by 4 KiB, so that it marks PTEs alone.
pub(super) fn is_kvm_mmio(step: &Step) -> bool {
    step.level == 1 && step.entry & 7 == 6
}
