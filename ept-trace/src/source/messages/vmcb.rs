//! `dump_vmcb`: what the kernel prints of a VMCB after a VMRUN that failed, with
//! `kvm_amd.dump_invalid_vmcb=1`. VMRUN asks nothing of nCR3 but its width, so this is a complaint, in
//! the kernel's words, of which these lines are kept:
//!
//! ```text
//! VMCB 00000000a4006788, last attempted VMRUN on CPU 81            (5.14 and later)
//! SEV-SNP vCPU1 VMCB 00000000759a48a5, last attempted VMRUN ...    (6.15 and later)
//! VMCB Control Area:
//! exit_code:          ffffffff
//! exit_info1:         0000000000000000
//! exit_info2:         0000000000000000
//! nested_cr3:         0000000148e44000
//! ```

use super::gather::{Begun, Gather, Step, append, complaint};
use super::scan::{after, begins_with_one_of};
use crate::model::EventKind;

const AREA: &[u8] = b"VMCB Control Area:";
const KEPT: &[&[u8]] = &[b"exit_code:", b"exit_info1:", b"exit_info2:"];
const LAST: &[u8] = b"nested_cr3:";

/// A dump, as far as it was seen.
#[derive(Debug, Default)]
struct Dump {
    text: Vec<u8>,
    has_area: bool,
}

/// Begins a dump.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    let has_area = message.starts_with(AREA);
    let is_head = || is_head(message);
    (has_area || is_head()).then(|| {
        let mut dump = Dump { has_area, ..Dump::default() };
        append(&mut dump.text, b"", message);
        Begun::Open(Box::new(dump))
    })
}

fn is_head(message: &[u8]) -> bool {
    const KINDS: &[&[u8]] = &[b"VMCB ", b"SVM ", b"SEV"];
    begins_with_one_of(message, KINDS) && after(message, b", last attempted VMRUN on CPU").is_some()
}

impl Gather for Dump {
    fn take(&mut self, message: &[u8]) -> Step {
        if message.starts_with(AREA) {
            let is_another = std::mem::replace(&mut self.has_area, true);
            return if is_another { Step::Over } else { Step::More };
        }
        let is_last = message.starts_with(LAST);
        if is_last || begins_with_one_of(message, KEPT) {
            append(&mut self.text, b"; ", message);
            return if is_last { Step::Last } else { Step::More };
        }
        if is_head(message) { Step::Over } else { Step::Foreign }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        vec![complaint("kvm", &self.text)]
    }
}
