//! Where `vmx_load_mmu_pgd` writes the EPTP to the VMCS, and in which register it has it then.
//!
//! `construct_eptp`, whose return would tell, is inlined on most kernels. The write cannot be:
//! it is one instruction, and the number of the field stands before it as an immediate value.

use anyhow::{Result, bail, ensure};
use ept_trace_common::abi::Field;

use super::Symbols;
use super::kcore::Kcore;

/// `mov $0x201a, %eax`: the field EPT_POINTER; SDM Vol. 3D §B.2.1.
const MOV_FIELD: [u8; 5] = [0xb8, 0x1a, 0x20, 0x00, 0x00];
/// No kernel's function is longer; nothing beyond its end is looked at either way.
const LONGEST: usize = 1024;

/// The write, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptpWrite {
    /// From the start of the function, in bytes.
    pub offset: usize,
    /// The register with the EPTP, as a member of `struct pt_regs`.
    pub register: Field,
}

impl EptpWrite {
    /// Looks for it in the running kernel.
    ///
    /// # Errors
    ///
    /// If the function or its code cannot be read, or has not just one such write.
    pub fn find(symbols: &Symbols, kcore: &Kcore) -> Result<Self> {
        const FUNCTION: (&str, &str) = ("kvm_intel", "vmx_load_mmu_pgd");
        let Some(start) = symbols.address(FUNCTION.0, FUNCTION.1) else {
            bail!("the address of {} is not in /proc/kallsyms", FUNCTION.1);
        };
        let Some(end) = symbols.end(FUNCTION.0, FUNCTION.1) else {
            bail!("the end of {} is not in /proc/kallsyms", FUNCTION.1);
        };
        let length = usize::try_from(end - start).unwrap_or(LONGEST).min(LONGEST);
        let mut code = vec![0; length];
        kcore.read_into(start, &mut code)?;
        Self::find_in(&code)
    }

    /// Looks for it in the code of the function.
    fn find_in(code: &[u8]) -> Result<Self> {
        let mut places = memchr::memmem::find_iter(code, &MOV_FIELD);
        let Some(at) = places.next() else { bail!("no write of EPT_POINTER is in its code") };
        ensure!(places.next().is_none(), "several writes of EPT_POINTER are in its code");
        let offset = at + MOV_FIELD.len();
        let Some(register) = vmwrite_rax(&code[offset..]) else {
            bail!("what follows the field EPT_POINTER in its code is no vmwrite of a register");
        };
        Ok(Self { offset, register })
    }
}

/// `vmwrite %reg, %rax`, and which register: `[41] 0f 79 /r`, SDM Vol. 3C §31.3.
fn vmwrite_rax(code: &[u8]) -> Option<Field> {
    let (rex_b, modrm) = match *code {
        // A breakpoint, of another probe or of one that was just removed, hides the first byte.
        [0x0f | 0xcc, 0x79, modrm, ..] => (0, modrm),
        [0x41, 0x0f, 0x79, modrm, ..] => (8, modrm),
        _ => return None,
    };
    // Both operands are registers, and the field is in %rax.
    (modrm & 0b1111_1000 == 0b1100_0000).then(|| pt_regs(usize::from(modrm & 7) + rex_b))
}

/// A general register as a member of `struct pt_regs`, by the number that instructions have for
/// it. Kernel: arch/x86/include/asm/ptrace.h, unchanged from 4.14 to 7.3.
fn pt_regs(register: usize) -> Field {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15: in words from the start.
    const PLACES: [u32; 16] = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0];
    Field { offset: PLACES[register & 15] * 8, size: 8, shift: 0, width: 0, reserved: 0 }
}

/// An argument of a function at its entry as a member of `struct pt_regs`, by its place from 0;
/// none beyond the six that are passed in registers.
pub fn argument(place: usize) -> Option<Field> {
    /// rdi, rsi, rdx, rcx, r8, r9.
    const REGISTERS: [usize; 6] = [7, 6, 2, 1, 8, 9];
    REGISTERS.get(place).map(|register| pt_regs(*register))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mov $0x201a,%eax`, the write, `jbe`.
    fn code(write: &[u8]) -> Vec<u8> {
        [&[0x55, 0x48, 0x89, 0xe5][..], &MOV_FIELD, write, &[0x0f, 0x86, 1, 0, 0, 0]].concat()
    }

    #[test]
    fn the_write_and_its_register_are_found() {
        // rbp, rsi and r12, as the compilers of Debian's kernels and ours have them.
        for (write, offset) in [
            (&[0x0f, 0x79, 0xc5][..], 32),
            (&[0x0f, 0x79, 0xc6], 104),
            (&[0xcc, 0x79, 0xc6], 104),
            (&[0x41, 0x0f, 0x79, 0xc4], 24),
        ] {
            let found = EptpWrite::find_in(&code(write)).unwrap();
            assert_eq!((found.offset, found.register.offset), (9, offset), "{write:x?}");
        }
    }

    #[test]
    fn what_is_not_plainly_the_write_is_refused() {
        let hidden_prefix = [0xcc, 0x0f, 0x79, 0xc4];
        assert!(EptpWrite::find_in(&code(&hidden_prefix)).is_err(), "rsp or r12");
        let memory = [0x0f, 0x79, 0x45];
        let other_field = [0x0f, 0x79, 0xce];
        let read = [0x0f, 0x78, 0xc6];
        for write in [memory, other_field, read] {
            assert!(EptpWrite::find_in(&code(&write)).is_err(), "{write:x?}");
        }
        let twice = [code(&[0x0f, 0x79, 0xc6]), code(&[0x0f, 0x79, 0xc6])].concat();
        assert!(EptpWrite::find_in(&twice).is_err());
        assert!(EptpWrite::find_in(&[]).is_err());
        assert!(EptpWrite::find_in(&MOV_FIELD).is_err());
    }

    #[test]
    fn arguments_are_where_the_calling_convention_has_them() {
        let offsets = [0, 1, 2, 3, 4, 5].map(|place| argument(place).map(|field| field.offset));
        assert_eq!(offsets, [112, 104, 96, 88, 72, 64].map(Some));
        assert_eq!(argument(6), None);
    }
}
