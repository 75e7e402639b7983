//! What `check` and L1 tell each other through the guest's memory.

/// Where [`Params`] are: a GPA, as all addresses here.
pub const PARAMS: u64 = 0x1000;
/// Where the [`Report`] is left.
pub const REPORT: u64 = 0x2000;
/// Where L1's own page tables begin.
pub const PAGE_TABLES: u64 = 0x3000;
/// The end of the stack: it grows down from here, towards L1 itself.
pub const STACK_END: u64 = 0x20_0000;
/// Memory that L1 hands out in pages of 4 KiB: from here to [`LARGE_PAGE`].
pub const FRAMES: u64 = STACK_END;
/// A page of 2 MiB for L2.
pub const LARGE_PAGE: u64 = 0x40_0000;
/// How many pages L2 uses: its code, five page tables, and five places for marks. Each must fault
/// once.
pub const L2_PAGES: u64 = 11;
/// How much memory the guest must have, in bytes from GPA 0.
pub const MEMORY: u64 = 0x60_0000;

/// What L1 shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Params {
    /// Levels of the nested page tables: 4 or 5. With SVM, L1's own paging must have as many.
    pub levels: u64,
    /// A page-aligned GPA far up that L2 shall reach.
    pub far: u64,
}

impl Params {
    /// As it is in memory.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.levels.to_le_bytes());
        bytes[8..].copy_from_slice(&self.far.to_le_bytes());
        bytes
    }
}

/// What CPU and KVM do not offer to L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Missing {
    /// Neither VMX nor SVM.
    Virtualization = 1,
    /// EPT, or with SVM nested paging.
    NestedPaging,
    /// EPT page walks of so many levels.
    Levels,
    /// EPT paging structures in write-back memory.
    WriteBack,
    /// EPT pages of 2 MiB.
    LargePages,
}

impl Missing {
    const ALL: [Self; 5] =
        [Self::Virtualization, Self::NestedPaging, Self::Levels, Self::WriteBack, Self::LargePages];
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// L1 has not come to its end.
    Unfinished,
    /// L2 halted, and all its marks are in place. How many of its accesses L1 had to map.
    Halted {
        /// EPT violations or nested page faults.
        violations: u64,
    },
    /// L1 cannot do what it shall, for want of this.
    NotOffered(Missing),
    /// VMXON, VMCLEAR, VMPTRLD or VMWRITE failed.
    VmxFailed {
        /// The number of the VM-instruction error; 0 if there is no current VMCS.
        error: u64,
    },
    /// VMLAUNCH or VMRESUME failed.
    EntryFailed {
        /// The number of the VM-instruction error: SDM Vol. 3C, "VM Instruction Error Numbers".
        error: u64,
    },
    /// L2 exited for another reason than those it should.
    OtherExit {
        /// The exit reason, or with SVM the exit code.
        reason: u64,
        /// The exit qualification, or with SVM EXITINFO1.
        qualification: u64,
        /// The guest-physical address, or with SVM EXITINFO2.
        gpa: u64,
    },
    /// L2 faulted at a GPA where it has nothing.
    StrayViolation {
        /// The GPA.
        gpa: u64,
        /// The exit qualification, or with SVM EXITINFO1.
        qualification: u64,
    },
    /// L2 faulted again at a GPA that was mapped after it faulted first.
    RepeatedViolation {
        /// The GPA.
        gpa: u64,
        /// The exit qualification, or with SVM EXITINFO1.
        qualification: u64,
    },
    /// L2 halted, but a mark is not where L1's tables lead.
    WrongMark {
        /// L2's GPA.
        gpa: u64,
        /// What should be there.
        expected: u64,
        /// What is there.
        found: u64,
    },
}

/// An [`Outcome`] as it is in memory: its number, and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Report([u64; 4]);

/// The size of a [`Report`] in bytes.
pub const REPORT_SIZE: usize = size_of::<Report>();

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self(match outcome {
            Outcome::Unfinished => [0; 4],
            Outcome::Halted { violations } => [1, violations, 0, 0],
            Outcome::NotOffered(missing) => [2, missing as u64, 0, 0],
            Outcome::VmxFailed { error } => [3, error, 0, 0],
            Outcome::EntryFailed { error } => [4, error, 0, 0],
            Outcome::OtherExit { reason, qualification, gpa } => [5, reason, qualification, gpa],
            Outcome::StrayViolation { gpa, qualification } => [6, gpa, qualification, 0],
            Outcome::RepeatedViolation { gpa, qualification } => [7, gpa, qualification, 0],
            Outcome::WrongMark { gpa, expected, found } => [8, gpa, expected, found],
        })
    }
}

impl Report {
    /// What was found in memory.
    pub fn from_bytes(bytes: &[u8; REPORT_SIZE]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// The outcome, if it is one.
    pub fn outcome(self) -> Option<Outcome> {
        let [number, a, b, c] = self.0;
        Some(match number {
            0 => Outcome::Unfinished,
            1 => Outcome::Halted { violations: a },
            2 => Outcome::NotOffered(Missing::ALL.into_iter().find(|it| *it as u64 == a)?),
            3 => Outcome::VmxFailed { error: a },
            4 => Outcome::EntryFailed { error: a },
            5 => Outcome::OtherExit { reason: a, qualification: b, gpa: c },
            6 => Outcome::StrayViolation { gpa: a, qualification: b },
            7 => Outcome::RepeatedViolation { gpa: a, qualification: b },
            8 => Outcome::WrongMark { gpa: a, expected: b, found: c },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_put_into_it() {
        let outcomes = [
            Outcome::Unfinished,
            Outcome::Halted { violations: 11 },
            Outcome::NotOffered(Missing::Levels),
            Outcome::VmxFailed { error: 1 },
            Outcome::EntryFailed { error: 7 },
            Outcome::OtherExit { reason: 2, qualification: 3, gpa: 4 },
            Outcome::StrayViolation { gpa: 5, qualification: 6 },
            Outcome::RepeatedViolation { gpa: 7, qualification: 8 },
            Outcome::WrongMark { gpa: 9, expected: 10, found: 11 },
        ];
        for (number, outcome) in (0_u64..).zip(outcomes) {
            let report = Report::from(outcome);
            assert_eq!(report.0[0], number);
            let mut bytes = [0; REPORT_SIZE];
            for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(report.0) {
                *bytes = word.to_le_bytes();
            }
            assert_eq!(Report::from_bytes(&bytes).outcome(), Some(outcome));
        }
        assert_eq!(Report([9, 0, 0, 0]).outcome(), None);
        assert_eq!(Report([2, 99, 0, 0]).outcome(), None);
    }
}
