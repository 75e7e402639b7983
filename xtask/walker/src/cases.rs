//! Takes in the cases, and answers each.

use core::arch::x86_64::__cpuid;
use core::ops::Range;

use ept_trace_l1::cpu::{self, Virtualization, rdmsr, wrmsr};
use ept_trace_l1::frames::{Frames, PAGE};
use ept_trace_l1::protocol::Outcome;
use ept_trace_l1::svm::{EFER, Svm};
use ept_trace_l1::vmx::capabilities::{EPT_VPID, SECONDARY};
use ept_trace_l1::vmx::{Vmx, vmread, vmwrite};
use ept_trace_l1::{Exit, Registers, Start, Vcpu};

use crate::Serial;
use crate::protocol::{
    Answer, Case, DATA, ENTRY_FAILED, HALTED, INFORMATION, LOG, MAGIC, Machine, OWN, PML, TABLES,
    VE, mark,
};

/// For the VMCS and the like, which take four pages at most; below the cases' memory.
const FRAMES: Range<u64> = 0x7f0_0000..0x7f0_0000 + 8 * PAGE;
/// How many words a case may write.
const MOST_WORDS: usize = 64;

/// IA32_FEATURE_CONTROL: SDM Vol. 3C, "Enabling and Entering VMX Operation".
const FEATURE_CONTROL: u32 = 0x3a;
const LOCKED: u64 = 1 << 0;
const VMX_OUTSIDE_SMX: u64 = 1 << 2;
const EFER_NXE: u64 = 1 << 11;

/// Fields of the VMCS: SDM Vol. 3D Appendix B.
const PML_INDEX: u64 = 0x0812;
const PML_ADDRESS: u64 = 0x200e;
const VE_INFORMATION_ADDRESS: u64 = 0x202a;
const EXIT_INTERRUPTION_INFORMATION: u64 = 0x4404;
/// The exit reason with VMX: SDM Vol. 3D Appendix C.
const EXCEPTION: u64 = 0;

/// VMX or SVM, set up.
enum Cpu {
    Vmx(Vmx),
    Svm(Svm),
}

/// Answers all cases.
///
/// # Safety
///
/// In ring 0, with all memory up to 1 GiB mapped to itself; that from 127 to 144 MiB must be there
/// and used by nothing else.
///
/// # Panics
///
/// If the CPU lacks something, or the cases are not such.
pub unsafe fn run(cases: &[u8], serial: &mut Serial) {
    for word in [TABLES, OWN].into_iter().flatten().step_by(8) {
        write(word, 0);
    }
    DATA.step_by(8).for_each(|at| write(at, mark(at)));
    FRAMES.step_by(8).for_each(|at| write(at, 0));
    // SAFETY: the caller's, and just zeroed.
    let mut frames = unsafe { Frames::new(FRAMES.start, FRAMES.end) };
    let (mut cpu, machine) = Cpu::new(&mut frames);
    serial.words(&[MAGIC]);
    serial.words(&machine.to_words());
    let mut words = Words(cases);
    for _ in 0..words.next() {
        answer(&mut cpu, &mut words, serial);
    }
    serial.words(&[MAGIC]);
}

/// The words that are yet to be taken in.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> u64 {
        let (word, rest) = self.0.split_first_chunk().expect("the cases are cut short");
        self.0 = rest;
        u64::from_le_bytes(*word)
    }
}

fn answer(cpu: &mut Cpu, words: &mut Words<'_>, serial: &mut Serial) {
    let case = Case::from_words(core::array::from_fn(|_| words.next()));
    let count = usize::try_from(case.words).unwrap_or(usize::MAX);
    let mut written = [(0, 0, 0); MOST_WORDS];
    let written = written.get_mut(..count).expect("too many words");
    for (at, new, old) in &mut *written {
        (*at, *new) = (words.next(), words.next());
        *old = read(*at);
        write(*at, *new);
    }
    let mut registers = Registers { rax: case.rax, rcx: 0, rdi: case.rdi };
    let [reason, qualification, gpa] = match cpu.run(&case, &mut registers) {
        Ok(Exit::Halt) => [HALTED, 0, 0],
        Ok(Exit::Violation { gpa, qualification }) => {
            [if matches!(cpu, Cpu::Vmx(_)) { 48 } else { 0x400 }, qualification, gpa]
        }
        Ok(Exit::Other { reason: EXCEPTION, qualification, .. }) if matches!(cpu, Cpu::Vmx(_)) => {
            [EXCEPTION, qualification, vmread(EXIT_INTERRUPTION_INFORMATION) & 0xff]
        }
        Ok(Exit::Other { reason, qualification, gpa }) => [reason, qualification, gpa],
        Err(Outcome::EntryFailed { error }) => [ENTRY_FAILED, error, 0],
        Err(other) => panic!("{other:?}"),
    };
    let differing = || {
        let now = written.iter().map(|&(at, new, _)| (new, read(at)));
        (0..).zip(now).filter(|(_, (new, now))| new != now)
    };
    let changed = differing().count() as u64;
    serial.words(&Answer { reason, qualification, gpa, rax: registers.rax, changed }.to_words());
    differing().for_each(|(number, (_, now))| serial.words(&[number, now]));
    // The last first, should a word have been written twice.
    written.iter().rev().for_each(|&(at, _, old)| write(at, old));
}

impl Cpu {
    fn new(frames: &mut Frames) -> (Self, Machine) {
        let start = Start { cr3: 0, rip: 0 };
        let levels = if cpu::cr4() & cpu::CR4_LA57 == 0 { 4 } else { 5 };
        let machine = Machine {
            maxphyaddr: u64::from(__cpuid(0x80000008).eax & 0xff),
            gbpages: u64::from(__cpuid(0x80000001).edx >> 26 & 1),
            levels,
            ..Machine::default()
        };
        match cpu::virtualization() {
            Some(Virtualization::Vmx) => {
                // SAFETY: CPUs with VMX have all of these, the last if they have EPT.
                let [secondary, capability] = unsafe {
                    let control = rdmsr(FEATURE_CONTROL);
                    if control & LOCKED == 0 {
                        wrmsr(FEATURE_CONTROL, control | LOCKED | VMX_OUTSIDE_SMX);
                    }
                    [rdmsr(SECONDARY) >> 32, rdmsr(EPT_VPID)]
                };
                let vmx = Vmx::new(4, 0, start, frames).expect("VMX");
                (Self::Vmx(vmx), Machine { vmx: 1, capability, secondary, ..machine })
            }
            Some(Virtualization::Svm) => {
                (Self::Svm(Svm::new(levels, 0, start, frames).expect("SVM")), machine)
            }
            None => panic!("neither VMX nor SVM"),
        }
    }

    fn run(&mut self, case: &Case, registers: &mut Registers) -> Result<Exit, Outcome> {
        let start = Start { cr3: case.cr3, rip: case.rip };
        match self {
            Self::Vmx(vmx) => {
                let control = u32::try_from(case.control).expect("32 bits of controls");
                vmx.restart(case.pointer, control, start)?;
                if case.control & PML != 0 {
                    vmwrite(PML_ADDRESS, LOG)?;
                    vmwrite(PML_INDEX, case.pml_index)?;
                }
                if case.control & VE != 0 {
                    vmwrite(VE_INFORMATION_ADDRESS, INFORMATION)?;
                }
                vmx.run(registers)
            }
            Self::Svm(svm) => {
                let nxe = if case.control == 0 { 0 } else { EFER_NXE };
                // SAFETY: no entry of our own tables has bit 63.
                unsafe { wrmsr(EFER, rdmsr(EFER) & !EFER_NXE | nxe) };
                svm.restart(case.pointer, start);
                svm.run(registers)
            }
        }
    }
}

/// The memory of the cases, and of this program itself.
fn word(at: u64) -> *mut u64 {
    assert!(
        (FRAMES.start..DATA.end).contains(&at) && at.is_multiple_of(8),
        "{at:#x} is no place of the cases"
    );
    core::ptr::with_exposed_provenance_mut(at as usize)
}

fn read(at: u64) -> u64 {
    // SAFETY: `run`'s caller has it that this is ours.
    unsafe { word(at).read_volatile() }
}

fn write(at: u64, value: u64) {
    // SAFETY: as above.
    unsafe { word(at).write_volatile(value) };
}
