//! SVM: the VMCB, and VMRUN. Sections are of the APM Vol. 2; offsets of the VMCB of its Appendix B.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use crate::cpu;
use crate::frames::{Frames, Page};
use crate::hypervisor::{Exit, Registers, Start, Vcpu};
use crate::protocol::{Missing, Outcome};

/// CPUID Fn8000_000A_EDX\[NP\]: nested paging.
const CPUID_NP: u32 = 1;
/// EFER, and its SVME bit: §3.1.7.
pub const EFER: u32 = 0xc0000080;
const EFER_SVME: u64 = 1 << 12;
/// Where VMRUN saves L1's state: §15.30.4.
const VM_HSAVE_PA: u32 = 0xc0010117;

/// Control area: the intercepts of all exceptions, and in the upper half of the word those of HLT
/// and of shutdown.
const INTERCEPTS: usize = 0x008;
const INTERCEPT_EXCEPTIONS: u64 = 0xffff_ffff;
const INTERCEPT_HLT_SHUTDOWN: u64 = (1 << 24 | 1 << 31) << 32;
/// The intercept of VMRUN, which must be set: §15.5.1.
const INTERCEPTS_SVM: usize = 0x010;
const INTERCEPT_VMRUN: u64 = 1;
/// The guest's ASID, which must not be 0: §15.5.1. In the upper half of the word, what VMRUN
/// flushes: all of the TLB, §15.16.2.
const ASID: usize = 0x058;
const FLUSH_ALL: u64 = 1 << 32;
/// Why the guest exited: §15.6.
const EXITCODE: usize = 0x070;
const EXITINFO1: usize = 0x078;
const EXITINFO2: usize = 0x080;
/// Nested paging on, and its root, walked with as many levels as L1's own paging: §15.25.
const NP_ENABLE: usize = 0x090;
const N_CR3: usize = 0x0b0;
/// State-save area: the segments, each selector, attributes, limit and base.
const CS: usize = 0x410;
const DATA_SEGMENTS: [usize; 5] = [0x400, 0x420, 0x430, 0x440, 0x450];
/// Attributes, §15.5.1: present, code readable, 64-bit; present, data writable.
const CODE_ATTRIBUTES: u16 = 0xa9b;
const DATA_ATTRIBUTES: u16 = 0xc93;
const SAVED_EFER: usize = 0x4d0;
const SAVED_CR4: usize = 0x548;
const SAVED_CR3: usize = 0x550;
const SAVED_CR0: usize = 0x558;
const SAVED_DR7: usize = 0x560;
const SAVED_DR6: usize = 0x568;
const SAVED_RFLAGS: usize = 0x570;
const SAVED_RIP: usize = 0x578;
const SAVED_RAX: usize = 0x5f8;
/// The guest's PAT, used with nested paging; its value at reset: §7.8.
const G_PAT: usize = 0x668;
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;

/// Exit codes, Appendix C.
const VMEXIT_HLT: u64 = 0x78;
const VMEXIT_NPF: u64 = 0x400;

/// CR4.PAE.
const CR4_PAE: u64 = 1 << 5;

/// A CPU with SVM.
pub struct Svm {
    vmcb: &'static mut Page,
}

impl Svm {
    /// Sets it up to run L2 from its start.
    pub fn new(levels: u64, root: u64, start: Start, frames: &mut Frames) -> Result<Self, Outcome> {
        if __cpuid(0x8000000a).edx & CPUID_NP == 0 {
            return Err(Outcome::NotOffered(Missing::NestedPaging));
        }
        let own_levels = if cpu::cr4() & cpu::CR4_LA57 == 0 { 4 } else { 5 };
        if levels != own_levels {
            return Err(Outcome::NotOffered(Missing::Levels));
        }
        // SAFETY: CPUs with SVM have both; the page is used for nothing else.
        let efer = unsafe {
            let efer = cpu::rdmsr(EFER) | EFER_SVME;
            cpu::wrmsr(EFER, efer);
            cpu::wrmsr(VM_HSAVE_PA, frames.page().address());
            efer
        };
        let mut svm = Self { vmcb: frames.page() };
        svm.write(INTERCEPTS, INTERCEPT_HLT_SHUTDOWN);
        svm.write(INTERCEPTS_SVM, INTERCEPT_VMRUN);
        svm.write(ASID, 1);
        svm.write(NP_ENABLE, 1);
        svm.write(N_CR3, root);
        svm.write(CS, segment(0x8, CODE_ATTRIBUTES));
        for at in DATA_SEGMENTS {
            svm.write(at, segment(0x10, DATA_ATTRIBUTES));
        }
        svm.write(SAVED_EFER, efer);
        svm.write(SAVED_CR4, CR4_PAE);
        svm.write(SAVED_CR3, start.cr3);
        svm.write(SAVED_CR0, cpu::cr0());
        svm.write(SAVED_DR7, 1 << 10);
        svm.write(SAVED_DR6, 0xffff_0ff0);
        svm.write(SAVED_RFLAGS, 2);
        svm.write(SAVED_RIP, start.rip);
        svm.write(G_PAT, PAT_AT_RESET);
        Ok(svm)
    }

    /// Has the next run start L2 anew, by the tables that this nCR3 leads to, with nothing cached
    /// of any, and all its exceptions exit.
    pub fn restart(&mut self, n_cr3: u64, start: Start) {
        self.write(INTERCEPTS, INTERCEPT_HLT_SHUTDOWN | INTERCEPT_EXCEPTIONS);
        self.write(ASID, 1 | FLUSH_ALL);
        self.write(N_CR3, n_cr3);
        self.write(SAVED_CR3, start.cr3);
        self.write(SAVED_RFLAGS, 2);
        self.write(SAVED_RIP, start.rip);
    }

    fn write(&mut self, at: usize, value: u64) {
        self.vmcb.0[at / 8] = value;
    }

    /// Reads what VMRUN may have changed.
    fn read(&self, at: usize) -> u64 {
        let word = &raw const self.vmcb.0[at / 8];
        // SAFETY: a word of the VMCB, which is ours.
        unsafe { word.read_volatile() }
    }
}

/// Selector, attributes and limit of a flat segment; its base, the next word, is 0.
fn segment(selector: u16, attributes: u16) -> u64 {
    u64::from(selector) | u64::from(attributes) << 16 | 0xffff_ffff << 32
}

impl Vcpu for Svm {
    fn run(&mut self, registers: &mut Registers) -> Result<Exit, Outcome> {
        // RAX is in the VMCB.
        self.write(SAVED_RAX, registers.rax);
        // SAFETY: the VMCB is whole, and L2 uses no registers but these. CLGI keeps interrupts off
        // until VMRUN, and an exit leaves them so: §15.17.
        unsafe {
            asm!(
                "clgi",
                "vmrun rax",
                in("rax") self.vmcb.address(),
                inout("rcx") registers.rcx,
                inout("rdi") registers.rdi,
            );
        }
        registers.rax = self.read(SAVED_RAX);
        let [reason, qualification, gpa] = [EXITCODE, EXITINFO1, EXITINFO2].map(|at| self.read(at));
        Ok(match reason {
            VMEXIT_HLT => Exit::Halt,
            VMEXIT_NPF => Exit::Violation { gpa, qualification },
            _ => Exit::Other { reason, qualification, gpa },
        })
    }
}
