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

#[cfg(test)]
mod tests {
    use walker::protocol::{Answer, Machine};

    use super::*;
    use crate::walks::expect::expect;
    use crate::walks::quirk::Quirk;

    /// The CPU of Bochs.
    const MACHINE: Machine = Machine {
        vmx: 1,
        maxphyaddr: 40,
        gbpages: 1,
        levels: 4,
        capability: 0xf01_0673_41c1,
        secondary: 0,
    };

    /// The first case that is expected to end so, and an answer that is as expected.
    fn agreed(wanted: fn(&End) -> bool) -> (Case, Expected, Answered) {
        let cases = (0..).map(|number| Case::new(1, number, &MACHINE));
        let mut known = cases.filter_map(|case| Some((expect(&case, &MACHINE, &[])?, case)));
        let (expected, case) = known.find(|(expected, _)| wanted(&expected.end)).expect("one");
        let mut answer = Answer { reason: HALTED, ..Answer::default() };
        match expected.end {
            End::Halted(rax) => answer.rax = rax,
            End::Stopped { gpa, ref walk } => {
                let Outcome::Violation(violation) = walk.outcome else { panic!("a violation") };
                answer = Answer { reason: EPT_VIOLATION, gpa, ..answer };
                answer.qualification = violation.qualification;
            }
            _ => panic!("no such case is asked for"),
        }
        let now = |&(at, _): &(u64, u64)| expected.memory.word(at).expect("a word of the case");
        let changed = (0..).zip(case.words.iter().map(now)).collect();
        assert_eq!(
            differences(&case, &expected, &Answered { answer, changed }),
            [],
            "as is expected"
        );
        let changed = (0..).zip(case.words.iter().map(now)).collect();
        (case, expected, Answered { answer, changed })
    }

    #[test]
    fn other_bytes_and_other_flags_are_found() {
        let (case, expected, right) = agreed(|end| matches!(end, End::Halted(_)));
        let mut wrong = right.clone();
        wrong.answer.rax ^= 1;
        let rax = right.answer.rax;
        assert_eq!(differences(&case, &expected, &wrong), [Difference::Rax(rax, rax ^ 1)]);
        let mut wrong = right.clone();
        wrong.changed[0].1 ^= 1 << 8;
        let (at, word) = (case.words[0].0, right.changed[0].1);
        let found = differences(&case, &expected, &wrong);
        assert_eq!(found, [Difference::Word(at, word, word ^ 1 << 8)]);
    }

    #[test]
    fn another_qualification_is_found_where_it_is_defined() {
        let is_violation = |end: &End| matches!(end, End::Stopped { walk, .. } if matches!(walk.outcome, Outcome::Violation(_)));
        let (case, expected, right) = agreed(is_violation);
        let mut wrong = right.clone();
        wrong.answer.qualification ^= 1 << 1;
        assert_eq!(differences(&case, &expected, &wrong).len(), 1);
        // Without mode-based execute control bit 6 is undefined.
        let mut other = right.clone();
        other.answer.qualification ^= 1 << 6;
        assert_eq!(differences(&case, &expected, &other), []);
        let mut wrong = right;
        wrong.answer.gpa ^= 8;
        assert_eq!(differences(&case, &expected, &wrong).len(), 1);
    }

    /// A quirk that foretold nothing else would explain nothing.
    #[test]
    fn every_quirk_changes_what_is_expected() {
        let secondary = u64::from(u32::MAX);
        let vmx = Machine { secondary, capability: MACHINE.capability | 1 << 7, ..MACHINE };
        let svm = Machine { vmx: 0, levels: 5, capability: 0, ..MACHINE };
        for (machine, cpu) in [(vmx, crate::lab::Cpu::Vmx5), (svm, crate::lab::Cpu::Svm)] {
            for quirk in Quirk::of(cpu) {
                let shows = |number| {
                    let case = Case::new(1, number, &machine);
                    let plain = expect(&case, &machine, &[])?;
                    let other = expect(&case, &machine, &[*quirk])?;
                    Some(plain.end != other.end || plain.memory != other.memory)
                };
                assert!((0..4000).any(|number| shows(number) == Some(true)), "{}", quirk.name());
            }
        }
    }
}
