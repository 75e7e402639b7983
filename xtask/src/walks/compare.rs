//! What the CPU did, held against what the oracle says.

use std::fmt;

use ept_trace::ept::Outcome;
use walker::protocol::{ENTRY_FAILED, HALTED, INFORMATION};

use super::case::Case;
use super::expect::{End, Expected, address};
use super::machine::Answered;

/// "VM entry with invalid control field(s)": SDM Vol. 3C, "VM Instruction Error Numbers".
const INVALID_CONTROL: u64 = 7;
/// Exit reasons, SDM Vol. 3D Appendix C; an exception that is a page fault.
const EXCEPTION: u64 = 0;
const EPT_VIOLATION: u64 = 48;
const EPT_MISCONFIGURATION: u64 = 49;
const LOG_FULL: u64 = 62;
/// Vectors.
const PAGE_FAULT_VECTOR: u64 = 14;
const VIRTUALIZATION: u64 = 20;
/// Exit codes, APM Vol. 2 Appendix C: #PF, and a nested page fault.
const PAGE_FAULT: u64 = 0x4e;
const NESTED_PAGE_FAULT: u64 = 0x400;

/// A thing in which the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// The guest ended otherwise: reason or code expected, and got.
    Reason(u64, u64),
    /// The qualification or EXITINFO1, as far as it is defined; or the error of VM entry.
    Qualification(u64, u64),
    /// The guest-physical address, or the vector.
    Gpa(u64, u64),
    /// RAX: what was read, or executed.
    Rax(u64, u64),
    /// A word of memory: its address, expected, got.
    Word(u64, u64, u64),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, expected, got) = match *self {
            Self::Reason(expected, got) => ("exit reason", expected, got),
            Self::Qualification(expected, got) => ("exit qualification", expected, got),
            Self::Gpa(expected, got) => ("GPA or vector", expected, got),
            Self::Rax(expected, got) => ("RAX", expected, got),
            Self::Word(at, expected, got) => {
                return write!(f, "word at {at:#x} is {got:#x}, not {expected:#x}");
            }
        };
        write!(f, "{what} is {got:#x}, not {expected:#x}")
    }
}

/// All in which they differ.
pub fn differences(case: &Case, expected: &Expected, answered: &Answered) -> Vec<Difference> {
    // All ones in the second half are put there by a virtualization exception alone.
    let information = expected.memory.word(INFORMATION).unwrap_or(0);
    let mut found = end(case, &expected.end, information >> 32 == 0xffff_ffff, answered);
    for (number, &(at, written)) in (0..).zip(&case.words) {
        let now = answered.changed.iter().find(|(changed, _)| *changed == number);
        let got = now.map_or(written, |&(_, now)| now);
        let specified = !unspecified(case, &expected.end, at);
        let word = expected.memory.word(at).filter(|word| (got ^ word) & specified != 0);
        found.extend(word.map(|word| Difference::Word(at, word, got)));
    }
    found
}

/// The bits of a word that may be either way: those of the exit qualification that are undefined, and the accessed flags of a walk that does not come to its
/// end. Neither SDM nor APM says, and CPUs are said to differ.
fn unspecified(case: &Case, end: &End, at: u64) -> u64 {
    let End::Stopped { walk, .. } = end else { return 0 };
    if let Outcome::Violation(violation) = walk.outcome
        && at == INFORMATION + 8
    {
        return !violation.mask;
    }
    match walk.trail.iter().any(|step| address(step) == at) {
        true if case.is_npt => 1 << 5,
        true => 1 << 8,
        false => 0,
    }
}

fn end(case: &Case, end: &End, is_converted: bool, answered: &Answered) -> Vec<Difference> {
    let got = &answered.answer;
    let (reason, qualification, gpa, rax) = match *end {
        End::Refused(_) => (ENTRY_FAILED, Some((INVALID_CONTROL, u64::MAX)), None, None),
        End::Halted(rax) => (HALTED, None, None, Some(rax)),
        End::PageFault(_) if case.is_npt => (PAGE_FAULT, None, None, None),
        // The qualification is the linear address.
        End::PageFault(linear) => {
            (EXCEPTION, Some((linear, u64::MAX)), Some(PAGE_FAULT_VECTOR), None)
        }
        End::Stopped { .. } if is_converted => (EXCEPTION, None, Some(VIRTUALIZATION), None),
        End::Stopped { gpa, ref walk, .. } => match walk.outcome {
            Outcome::Violation(it) => {
                (EPT_VIOLATION, Some((it.qualification, it.mask)), Some(gpa), None)
            }
            Outcome::NestedFault(it) => {
                (NESTED_PAGE_FAULT, Some((it.exitinfo1, it.mask)), Some(gpa), None)
            }
            Outcome::LogFull => (LOG_FULL, None, None, None),
            // There is none.
            _ => (EPT_MISCONFIGURATION, None, Some(gpa), None),
        },
    };
    if got.reason != reason {
        return vec![Difference::Reason(reason, got.reason)];
    }
    let mut found = Vec::new();
    let mut differ = |expected: Option<u64>, got, difference: fn(u64, u64) -> Difference| {
        found.extend(expected.filter(|it| *it != got).map(|it| difference(it, got)));
    };
    let mask = qualification.map_or(0, |(_, mask)| mask);
    differ(qualification.map(|(it, _)| it), got.qualification & mask, Difference::Qualification);
    differ(gpa, got.gpa, Difference::Gpa);
    differ(rax, got.rax, Difference::Rax);
    found
}
