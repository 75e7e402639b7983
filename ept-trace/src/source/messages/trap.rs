//! WARN, BUG and oops of the kernel, in KVM's code. The stack beneath them is not kept.
//!
//! ```text
//! ------------[ cut here ]------------
//! Bad TDP root level = 3                                                  (of WARN with a text)
//! WARNING: CPU: 0 PID: 1195 at arch/x86/kvm/mmu.c:4373 kvm_mmu_page_fault.cold.160+0x51/0x5f
//! ```
//!
//! Since 6.19 (28ea295f941e), where the text may be the condition itself:
//!
//! ```text
//! is_shadow_present_pte(*sptep)
//! WARNING: arch/x86/kvm/mmu/mmu.c:484 at mark_mmio_spte+0xb2/0xc0 [kvm], CPU#0: qemu/4292
//! ```
//!
//! BUG and oops tell the function in another line:
//!
//! ```text
//! kernel BUG at arch/x86/kvm/mmu/mmu.c:903!
//! invalid opcode: 0000 [#1] SMP NOPTI
//! CPU: 0 PID: 93 Comm: qemu Tainted: G        W   E     5.10.0
//! RIP: 0010:__pte_list_remove.cold+0x2e/0x48 [kvm]
//! ```

use super::gather::{Begun, Gather, Step, append, complaint};
use super::scan::{begins_with_one_of, has_one_of};
use crate::model::EventKind;

const CUT_HERE: &[u8] = b"------------[ cut here ]------------";
const WARNING: &[u8] = b"WARNING: ";
const BUGS: &[&[u8]] =
    &[b"kernel BUG at ", b"BUG: ", b"general protection fault", b"watchdog: BUG: "];
const RIP: &[u8] = b"RIP: ";

/// A trap whose function is yet to come.
#[derive(Debug, Default)]
struct Trap {
    text: Vec<u8>,
    /// What it is was told: `kernel BUG at`, not only what the condition was.
    is_told: bool,
    is_of_kvm: bool,
}

/// Begins a trap.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    if message.starts_with(CUT_HERE) {
        return Some(Begun::Open(Box::<Trap>::default()));
    }
    if message.starts_with(WARNING) {
        return is_of_kvm(message).then(|| Begun::Said(complaint("kernel", message)));
    }
    begins_with_one_of(message, BUGS).then(|| {
        let mut trap = Trap::default();
        trap.tell(message);
        Begun::Open(Box::new(trap))
    })
}

impl Gather for Trap {
    fn take(&mut self, message: &[u8]) -> Step {
        if message.starts_with(CUT_HERE) {
            return Step::Over;
        }
        match (self.is_told, message) {
            (false, _) if message.starts_with(WARNING) => {
                self.tell(message);
                Step::Last
            }
            (false, _) if begins_with_one_of(message, BUGS) => {
                self.tell(message);
                Step::More
            }
            // The line after the cut is the text; any other is not known to be of it.
            (false, _) if self.text.is_empty() => {
                append(&mut self.text, b"", message);
                Step::More
            }
            (true, _) if message.starts_with(RIP) => {
                self.tell(message);
                Step::Last
            }
            (true, _) if begins_with_one_of(message, BUGS) => Step::Over,
            _ => Step::Foreign,
        }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        let is_ours = self.is_told && self.is_of_kvm;
        if is_ours { vec![complaint("kernel", &self.text)] } else { vec![] }
    }
}

impl Trap {
    fn tell(&mut self, message: &[u8]) {
        let separator: &[u8] = if self.text.is_empty() { b"" } else { b"; " };
        append(&mut self.text, separator, message);
        self.is_told = true;
        self.is_of_kvm |= is_of_kvm(message);
    }
}

/// Whether a line names a file or a module of KVM, or a function of a KVM that is built in. Those of
/// a guest, such as `kvm_wait`, are none.
fn is_of_kvm(message: &[u8]) -> bool {
    const PLACES: &[&[u8]] =
        &[b"arch/x86/kvm/", b"virt/kvm/", b"[kvm]", b"[kvm_intel]", b"[kvm_amd]"];
    const FUNCTIONS: &[&[u8]] = &[
        b":kvm_mmu_",
        b":kvm_tdp_",
        b":kvm_arch_",
        b":kvm_vcpu_",
        b":__kvm_",
        b":vmx_",
        b":__vmx_",
        b":svm_",
        b":__svm_",
        b":nested_vmx_",
        b":nested_svm_",
        b":tdp_mmu_",
        b":handle_ept_",
        b":ept_page_fault",
        b":direct_page_fault",
        b":vcpu_enter_guest",
    ];
    has_one_of(message, PLACES) || message.starts_with(RIP) && has_one_of(message, FUNCTIONS)
}
