//! What QEMU prints on stderr when KVM does not run a guest: `kvm_cpu_exec` and `kvm_arch_handle_exit`.
//!
//! ```text
//! KVM: entry failed, hardware error 0x80000021
//! KVM: unknown exit, hardware reason 31
//! KVM internal error. Suberror: 3
//! extra data[0]: 0x0000000080000b0e
//! extra data[1]: 0x0000000000000031
//! error: kvm run failed Bad address
//! ```

use super::gather::{Begun, Gather, Step, append, complaint};
use super::scan::{begins_with_one_of, split};
use crate::model::EventKind;

const SAID: &[&[u8]] = &[
    b"KVM: entry failed, hardware error ",
    b"KVM: exception ",
    b"KVM: unknown exit reason ",
    b"KVM: unknown exit, hardware reason ",
    b"error: kvm run failed ",
];
/// Followed by what the kernel has to say of it: for Suberror 3 the vectoring information, the exit
/// reason, the qualification, and at an EPT misconfiguration the address.
const INTERNAL: &[u8] = b"KVM internal error. Suberror: ";
const MORE: &[&[u8]] = &[b"extra data[", b"emulation failure"];

/// An internal error, as far as it was seen.
#[derive(Debug)]
struct Internal(Vec<u8>);

/// Begins one of QEMU's complaints.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    let message = without_name(message);
    if begins_with_one_of(message, SAID) {
        return Some(Begun::Said(complaint("qemu", message)));
    }
    message.starts_with(INTERNAL).then(|| {
        let mut text = Vec::new();
        append(&mut text, b"", message);
        Begun::Open(Box::new(Internal(text)))
    })
}

/// The message without the program's name, which error_report puts before it.
fn without_name(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"qemu-") {
        return message;
    }
    split(message, b':').map_or(message, |(_, rest)| rest.trim_ascii_start())
}

impl Gather for Internal {
    fn take(&mut self, message: &[u8]) -> Step {
        if begins_with_one_of(message, MORE) {
            append(&mut self.0, b"; ", message);
            Step::More
        } else {
            Step::Over
        }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        vec![complaint("qemu", &self.0)]
    }
}
