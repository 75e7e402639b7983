//! What KVM says in one line, or in a few, when it cannot go on: to the CPU, or with its own tables.

use super::gather::{Begun, Gather, Step, append, complaint};
use super::scan::{after, begins_with_one_of};
use crate::model::EventKind;

/// By the begin of the message, without the module's name: that is there since 6.3 (`kvm_intel: `),
/// and before that where the text has it (`kvm: `).
const SAID: &[&[u8]] = &[
    // VMX instructions that fail (vmx_ops.h); `error:` before 5.2.
    b"vmread failed: ",
    b"vmread error: ",
    b"vmwrite failed: ",
    b"vmwrite error: ",
    b"vmclear failed: ",
    b"vmclear fail: ",
    b"vmptrld failed: ",
    b"vmptrld ",
    b"invvpid failed: ",
    b"invept failed: ",
    b"VMXON faulted, ",
    // An entry failed, or an exit was not expected, and nothing was printed of it.
    b"set kvm_intel.dump_invalid_vmcs=1 ",
    b"set kvm_amd.dump_invalid_vmcb=1 ",
    b"nested vmx abort, ",
    b"unexpected VM-Exit interrupt info: ",
    // CPUs whose capabilities differ.
    b"Inconsistent VMCS config on CPU ",
    b"VMCS config on CPU ",
    // Tables that are not what KVM keeps of them.
    b"gfn mismatch under ",
    b"access mismatch under ",
    b"MMU-writable SPTE is not Host-writable: ",
    b"Writable SPTE is not MMU-writable: ",
    b"Bad TDP root level = ",
];
/// `kvm [1195]: vcpu0, guest rIP: 0xfff0 vmx: unexpected exit reason 0x3`; 7.2 leaves `vmx:` out.
const VCPU: &[u8] = b"kvm [";
const UNEXPECTED: &[u8] = b"unexpected exit reason 0x";
/// Several lines, of which the last has the entries (handle_changed_spte of tdp_mmu.c).
const CHANGES: &[&[u8]] = &[b"Invalid SPTE change: ", b"Unexpected SPTE change! "];
const CHANGED: &[u8] = b"as_id: ";
/// The rmap does not have what an entry is for (mmu.c).
const REMOVED: &[&[u8]] = &[b"pte_list_remove: ", b"__pte_list_remove: "];

/// A change that cannot be, as far as it was seen.
#[derive(Debug)]
struct Change(Vec<u8>);

/// Begins a complaint.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    let is_vcpu = || message.starts_with(VCPU) && after(message, UNEXPECTED).is_some();
    if begins_with_one_of(message, SAID) || begins_with_one_of(message, REMOVED) || is_vcpu() {
        return Some(Begun::Said(complaint("kvm", message)));
    }
    if !begins_with_one_of(message, CHANGES) {
        return None;
    }
    // /dev/kmsg has it as one line.
    Some(if after(message, CHANGED).is_some() {
        Begun::Said(complaint("kvm", message))
    } else {
        let mut text = Vec::new();
        append(&mut text, b"", message);
        Begun::Open(Box::new(Change(text)))
    })
}

impl Gather for Change {
    fn take(&mut self, message: &[u8]) -> Step {
        if message.starts_with(CHANGED) {
            append(&mut self.0, b" ", message);
            return Step::Last;
        }
        if begins_with_one_of(message, CHANGES) { Step::Over } else { Step::Foreign }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        vec![complaint("kvm", &self.0)]
    }
}
