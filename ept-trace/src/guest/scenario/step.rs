//! What a scenario has a vCPU do, and what may come of each step.

use std::fmt;

use crate::guest::random::mix;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

/// Who writes a mark: no two write the same to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The host, before the guest runs.
    Host,
    /// The host, into other memory for the same place.
    OtherHost,
    /// Userspace, which answers an access that no memslot takes.
    Answer,
    /// A vCPU, in this round.
    Vcpu(usize, u32),
}

/// The mark of a writer for a GPA of up to 52 bits: distinct for each, and never 0.
pub(super) fn mark(gpa: u64, writer: Writer) -> u64 {
    let writer = match writer {
        Writer::Host => 1,
        Writer::OtherHost => 2,
        Writer::Answer => 3,
        Writer::Vcpu(id, round) => 4 + (id as u64 % 64) + u64::from(round % 60) * 64,
    };
    mix(gpa & ((1 << 52) - 1) | writer << 52)
}

/// One access of a vCPU, with 8 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Reads one of these values.
    Read(u64, Vec<u64>),
    /// Runs code there that returns one of these values.
    Execute(u64, Vec<u64>),
    /// Writes this value.
    Write(u64, u64, Target),
    /// Waits until the host has acted.
    Pause,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Into memory.
    Memory,
    /// Out to userspace, as KVM_EXIT_MMIO.
    Userspace,
    /// One or the other, as the host is just about to change it.
    Either,
}

impl Step {
    /// Reads this value.
    pub(super) fn read(gpa: u64, value: u64) -> Self {
        Self::Read(gpa, vec![value])
    }

    /// Reads where no memslot is.
    pub(super) fn read_hole(gpa: u64) -> Self {
        Self::read(gpa, mark(gpa, Writer::Answer))
    }

    /// Writes this value into memory.
    pub(super) fn write(gpa: u64, value: u64) -> Self {
        Self::Write(gpa, value, Target::Memory)
    }
}

/// What came of a step that should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// At the step of this number, from 0.
    step: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Value { gpa: u64, found: u64, allowed: Vec<u64> },
    NoExit { gpa: u64 },
    StrayExit { gpa: u64, value: u64 },
}

/// Holds what a vCPU read, one value for each step, and the writes that exited to userspace (GPA
/// and value) against its steps. The writes come first, for what is read may hang on them.
pub(super) fn verify(steps: &[Step], values: &[u64], writes: &[(u64, u64)]) -> Result<(), Wrong> {
    let mut writes = writes.iter().copied().peekable();
    for (number, step) in steps.iter().enumerate() {
        if let Step::Write(gpa, value, target) = *step {
            let exited = writes.peek() == Some(&(gpa, value));
            match target {
                Target::Memory if exited => {
                    return Err(Wrong { step: number, what: What::StrayExit { gpa, value } });
                }
                Target::Userspace if !exited => {
                    return Err(Wrong { step: number, what: What::NoExit { gpa } });
                }
                _ if exited => _ = writes.next(),
                _ => {}
            }
        }
    }
    if let Some((gpa, value)) = writes.next() {
        return Err(Wrong { step: steps.len(), what: What::StrayExit { gpa, value } });
    }
    for (number, step) in steps.iter().enumerate() {
        if let Step::Read(gpa, allowed) | Step::Execute(gpa, allowed) = step {
            let found = values.get(number).copied().unwrap_or_default();
            if !allowed.contains(&found) {
                let what = What::Value { gpa: *gpa, found, allowed: allowed.clone() };
                return Err(Wrong { step: number, what });
            }
        }
    }
    Ok(())
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Value { gpa, found, allowed } => {
                write!(f, "step {}: {found:#x} is read at GPA {gpa:#x}, not ", self.step)?;
                for (n, value) in allowed.iter().enumerate() {
                    write!(f, "{}{value:#x}", if n > 0 { " or " } else { "" })?;
                }
                Ok(())
            }
            What::NoExit { gpa } => {
                write!(f, "step {}: a write to GPA {gpa:#x} does not exit", self.step)
            }
            What::StrayExit { gpa, value } => {
                write!(f, "step {}: a write of {value:#x} to GPA {gpa:#x} exits", self.step)
            }
        }
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_marks_are_alike() {
        let vcpus = (0..64).flat_map(|id| (0..60).map(move |round| Writer::Vcpu(id, round)));
        let writers: Vec<_> =
            [Writer::Host, Writer::OtherHost, Writer::Answer].into_iter().chain(vcpus).collect();
        let gpas = [0, 8, PAGE, 1 << 47, (1 << 52) - PAGE];
        let marks: BTreeSet<_> =
            gpas.iter().flat_map(|gpa| writers.iter().map(|by| mark(*gpa, *by))).collect();
        assert_eq!(marks.len(), gpas.len() * writers.len());
        assert!(!marks.contains(&0));
    }

    #[test]
    fn a_wrong_mark_is_found_at_its_step() {
        let (here, there) = (0x1000, 0x2000);
        let steps = [Step::read(here, 1), Step::write(here, 9), Step::Read(there, vec![0, 2])];
        assert_eq!(verify(&steps, &[1, 9, 2], &[]), Ok(()));
        assert_eq!(verify(&steps, &[1, 9, 0], &[]), Ok(()));
        // The page of `here` where that of `there` should be.
        let wrong = verify(&steps, &[1, 9, 1], &[]).expect_err("a wrong translation");
        assert_eq!(wrong.to_string(), "step 2: 0x1 is read at GPA 0x2000, not 0x0 or 0x2");
        assert_eq!(verify(&steps, &[1], &[]), Ok(()), "nothing read is 0, which is allowed there");
        assert!(verify(&steps, &[], &[]).is_err());
        let execute = [Step::Execute(here, vec![7])];
        assert!(verify(&execute, &[7], &[]).is_ok() && verify(&execute, &[8], &[]).is_err());
    }

    #[test]
    fn writes_exit_where_they_must_and_nowhere_else() {
        let steps = [
            Step::write(0x1000, 1),
            Step::Write(0x2000, 2, Target::Userspace),
            Step::Write(0x3000, 3, Target::Either),
            Step::Write(0x2000, 4, Target::Userspace),
        ];
        let verify = |writes: &[(u64, u64)]| verify(&steps, &[], writes);
        let (second, third, fourth) = ((0x2000, 2), (0x3000, 3), (0x2000, 4));
        assert_eq!(verify(&[second, fourth]), Ok(()));
        assert_eq!(verify(&[second, third, fourth]), Ok(()));
        assert!(verify(&[second, third]).is_err(), "the last does not exit");
        assert!(verify(&[fourth, second]).is_err(), "out of turn");
        assert!(verify(&[second, fourth, (0x1000, 1)]).is_err(), "exits, and should not");
        assert!(verify(&[(0x2000, 3), fourth]).is_err(), "another value");
    }
}
