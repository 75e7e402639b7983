//! What `cargo xtask walks` and the program tell each other, all in words of 64 bits, little-endian.
//!
//! The initramfs is the number of cases, and after it the cases. A case is its [`Case`], and
//! as many pairs of address and value as that says: words of memory that are written before the
//! access and put back after it. What comes back is [`MAGIC`], the [`Machine`], and for each case an
//! [`Answer`] with as many pairs as that says: those of the words that hold something else than what
//! was written, by number, with what they hold. [`MAGIC`] ends it.

use core::ops::Range;

/// Begins and ends what comes back.
pub const MAGIC: u64 = 0x7761_6c6b_6564_210a;
/// In the place of [`MAGIC`]: it went wrong, and the rest of what comes is text.
pub const FAILURE: u64 = 0x7761_6c6b_6564_3f0a;

/// Memory for tables: zero but for what a case writes.
pub const TABLES: Range<u64> = 0x800_0000..0x840_0000;
/// A page of 2 MiB that is the guest's own: its code and page tables; zero but for what a case
/// writes.
pub const OWN: Range<u64> = 0x840_0000..0x860_0000;
/// In [`OWN`]: the page-modification log, and the virtualization-exception information area.
pub const LOG: u64 = OWN.start + 0x1_0000;
/// See [`LOG`].
pub const INFORMATION: u64 = OWN.start + 0x1_1000;
/// Memory whose words tell where they are: see [`mark`].
pub const DATA: Range<u64> = 0x880_0000..0x900_0000;

/// What stands at an address in [`DATA`], a multiple of 8. Read it tells its address. Executed it
/// puts [`executed`] into RAX and halts: `mov eax, imm32; hlt`. As an entry of any table it is not
/// present.
pub const fn mark(address: u64) -> u64 {
    0xf4 << 40 | executed(address) << 8 | 0xb8
}

/// What the code at an address in [`DATA`] leaves in RAX.
pub const fn executed(address: u64) -> u64 {
    address >> 3
}

macro_rules! words {
    ($(#[$what:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$what])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// How many words it is.
            pub const WORDS: usize = [$(stringify!($field)),*].len();

            /// As words.
            pub const fn to_words(self) -> [u64; Self::WORDS] {
                [$(self.$field),*]
            }

            /// From words.
            pub const fn from_words([$($field),*]: [u64; Self::WORDS]) -> Self {
                Self { $($field),* }
            }
        }
    };
}

words! {
    /// What to do.
    Case {
        /// EPTP, or nCR3.
        pointer,
        /// VMX: bits to add to the secondary processor-based controls. SVM: whether EFER.NXE is set.
        control,
        /// With [`PML`]: the PML index.
        pml_index,
        /// The guest's CR3.
        cr3,
        /// Where the guest starts.
        rip,
        /// Its RDI.
        rdi,
        /// Its RAX.
        rax,
        /// How many words are to be written.
        words,
    }
}

words! {
    /// The CPU.
    Machine {
        /// 1 with VMX, 0 with SVM.
        vmx,
        /// CPUID.80000008H:EAX\[7:0\].
        maxphyaddr,
        /// Whether CPUID has pages of 1 GiB.
        gbpages,
        /// Levels of the program's own paging, by which NPT is walked.
        levels,
        /// VMX: IA32_VMX_EPT_VPID_CAP.
        capability,
        /// VMX: the secondary processor-based controls that may be 1.
        secondary,
    }
}

words! {
    /// What came of a case.
    Answer {
        /// The exit reason or exit code; [`ENTRY_FAILED`].
        reason,
        /// The exit qualification or EXITINFO1; the number of the VM-instruction error.
        qualification,
        /// The guest-physical address or EXITINFO2, where the reason is one that has it; with VMX
        /// the vector, where it is an exception.
        gpa,
        /// The guest's RAX.
        rax,
        /// How many words hold something else than what was written.
        changed,
    }
}

/// Secondary processor-based controls, SDM Vol. 3C, "Processor-Based VM-Execution Controls":
/// page-modification logging.
pub const PML: u64 = 1 << 17;
/// EPT-violation #VE.
pub const VE: u64 = 1 << 18;
/// Mode-based execute control for EPT.
pub const MBE: u64 = 1 << 22;

/// In the place of an exit reason: VMLAUNCH or VMRESUME failed.
pub const ENTRY_FAILED: u64 = 1 << 63;
/// In the place of an exit reason: HLT, with either vendor.
pub const HALTED: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_code_and_an_address_and_no_entry() {
        let mark = mark(DATA.start + 8);
        assert_eq!(mark.to_le_bytes(), [0xb8, 1, 0, 0x10, 1, 0xf4, 0, 0]);
        assert_eq!(executed(DATA.start + 8), 0x0110_0001);
        assert_eq!(mark & 7, 0, "neither P nor R, W or X");
    }

    #[test]
    fn words_are_in_the_order_of_the_fields() {
        let case = Case { pointer: 1, words: 2, ..Case::default() };
        assert_eq!(case.to_words(), [1, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(Case::from_words(case.to_words()), case);
    }
}
