//! Where the lab's CPUs are known to differ from what the manuals say, each by a name.
//!
//! A quirk changes what is expected of a case, so it must foretell exactly what the CPU does.

use crate::lab::Cpu;

/// A deviation of an emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quirk {
    /// QEMU: a fault by reserved bits has P clear in EXITINFO1. kvm-unit-tests want it set.
    ReservedNotPresent,
    /// QEMU: bit 8 of a PML5E or PML4E, which is reserved, is ignored.
    RootGlobalIgnored,
    /// QEMU: a read-modify-write reads before it asks whether it may write, so it can fault as a
    /// read, and sets accessed flags of a write that is denied.
    ReadsBeforeWriting,
    /// Bochs: bit 12 of a leaf of 2 MiB or 1 GiB is ignored, as if it were PAT's; SDM tables 31-4
    /// and 31-6 have it reserved.
    LargeBit12Ignored,
    /// Bochs: with EPTP bit 6 a guest table's access has only bit 1 in the qualification, and not
    /// bit 0 as well; SDM table 30-7, footnote 1.
    TableAccessNotRead,
    /// Bochs: under mode-based execute control the AND of bits 10 is in bit 13 of a data access's
    /// qualification, and not in bit 6.
    UserExecuteMisplaced,
    /// Bochs: without EPTP bit 6 the guest's accessed and dirty flags are set without asking EPT
    /// whether they may be written; SDM 31.3.3.2.
    FlagsSetUnasked,
    /// Bochs: once the PML index is out of range any access that is walked is a log-full event, even
    /// if no flag is to be set or the walk does not come to its end; SDM 31.3.6.
    LogFullFirst,
}

impl Quirk {
    /// Those of a CPU's emulator.
    pub fn of(cpu: Cpu) -> &'static [Self] {
        match cpu {
            Cpu::Svm | Cpu::SvmLa48 => {
                &[Self::ReservedNotPresent, Self::RootGlobalIgnored, Self::ReadsBeforeWriting]
            }
            Cpu::Vmx | Cpu::Vmx5 => &[
                Self::LargeBit12Ignored,
                Self::TableAccessNotRead,
                Self::UserExecuteMisplaced,
                Self::FlagsSetUnasked,
                Self::LogFullFirst,
            ],
        }
    }

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReservedNotPresent => "reserved-not-present",
            Self::RootGlobalIgnored => "root-global-ignored",
            Self::ReadsBeforeWriting => "reads-before-writing",
            Self::LargeBit12Ignored => "large-bit-12-ignored",
            Self::TableAccessNotRead => "table-access-not-read",
            Self::UserExecuteMisplaced => "user-execute-misplaced",
            Self::FlagsSetUnasked => "flags-set-unasked",
            Self::LogFullFirst => "log-full-first",
        }
    }

    /// All choices of some of them, the smallest first, without that of none.
    pub fn choices(of: &[Self]) -> Vec<Vec<Self>> {
        let chosen = |bits: u32| {
            let is_chosen = |number: &usize| bits >> number & 1 != 0;
            (0..of.len()).filter(is_chosen).map(|number| of[number]).collect()
        };
        let mut choices: Vec<Vec<Self>> = (1..1 << of.len()).map(chosen).collect();
        choices.sort_by_key(Vec::len);
        choices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_begin_with_the_single_ones() {
        let all = Quirk::of(Cpu::Svm);
        let choices = Quirk::choices(all);
        assert_eq!(choices.len(), 7);
        assert_eq!(choices[..3].concat(), all);
        assert_eq!(choices[6], all);
    }
}
