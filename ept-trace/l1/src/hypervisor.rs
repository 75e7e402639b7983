//! What L1 does, whichever the vendor.

use crate::cpu::{Virtualization, virtualization};
use crate::frames::{Frames, PAGE};
use crate::l2::{L2, OWN_PAGES};
use crate::protocol::{FRAMES, LARGE_PAGE, Missing, Outcome, Params};
use crate::svm::Svm;
use crate::tables::{Format, Tables};
use crate::vmx::Vmx;

/// Why L2 came back to L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It executed HLT.
    Halt,
    /// An EPT violation, or a nested page fault.
    Violation {
        /// L2's GPA.
        gpa: u64,
        /// The exit qualification, or EXITINFO1.
        qualification: u64,
    },
    /// Anything else; see [`Outcome::OtherExit`].
    Other {
        /// The exit reason, or the exit code.
        reason: u64,
        /// The exit qualification, or EXITINFO1.
        qualification: u64,
        /// The guest-physical address, or EXITINFO2.
        gpa: u64,
    },
}

/// How L2 starts, in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// CR3, by which its page tables of 4 levels are walked: a GPA.
    pub cr3: u64,
    /// The linear address of its first instruction.
    pub rip: u64,
}

/// The registers that L2 may use. The CPU leaves them alone when it enters and exits L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDI.
    pub rdi: u64,
}

/// A CPU that is set up to run L2.
pub trait Vcpu {
    /// Runs it to its next exit.
    fn run(&mut self, registers: &mut Registers) -> Result<Exit, Outcome>;
}

/// Runs L2 to its end.
///
/// # Safety
///
/// In ring 0 of a machine that has the memory described in [`crate::protocol`], mapped to itself,
/// and with no other use for it.
pub unsafe fn run(params: &Params) -> Outcome {
    let own = FRAMES + OWN_PAGES * PAGE;
    // SAFETY: the caller's; the two do not overlap.
    let (own, frames) = unsafe { (Frames::new(FRAMES, own), Frames::new(own, LARGE_PAGE)) };
    match set_up_and_drive(params, L2::new(own, params.far), frames) {
        Ok(violations) => Outcome::Halted { violations },
        Err(outcome) => outcome,
    }
}

fn set_up_and_drive(params: &Params, l2: L2, mut frames: Frames) -> Result<u64, Outcome> {
    let missing = Outcome::NotOffered(Missing::Virtualization);
    match virtualization().ok_or(missing)? {
        Virtualization::Vmx => {
            let tables = Tables::new(Format::Ept, params.levels, 0, &mut frames);
            let vmx = Vmx::new(params.levels, tables.root(), l2.start(), &mut frames)?;
            drive(vmx, l2, tables, frames)
        }
        Virtualization::Svm => {
            let tables = Tables::new(Format::Paging, params.levels, 0, &mut frames);
            let svm = Svm::new(params.levels, tables.root(), l2.start(), &mut frames)?;
            drive(svm, l2, tables, frames)
        }
    }
}

/// Runs L2 and maps what it lacks, until it halts; how often it lacked something.
fn drive(
    mut vcpu: impl Vcpu,
    mut l2: L2,
    mut tables: Tables,
    mut frames: Frames,
) -> Result<u64, Outcome> {
    let mut registers = l2.registers();
    let mut violations = 0;
    loop {
        match vcpu.run(&mut registers)? {
            Exit::Halt => {
                l2.check()?;
                return Ok(violations);
            }
            Exit::Violation { gpa, qualification } => {
                violations += 1;
                let mapping = l2
                    .mapping(gpa, &mut frames)
                    .ok_or(Outcome::StrayViolation { gpa, qualification })?;
                if !tables.map(mapping.gpa, mapping.to, mapping.size, &mut frames) {
                    return Err(Outcome::RepeatedViolation { gpa, qualification });
                }
            }
            Exit::Other { reason, qualification, gpa } => {
                return Err(Outcome::OtherExit { reason, qualification, gpa });
            }
        }
    }
}
