//! What a scenario's guest runs: one program for all, which walks a list of commands.

use std::arch::global_asm;
use std::slice;

use crate::guest::memory::Memory;

/// The port that a pause writes to.
pub(super) const PAUSE_PORT: u16 = 0x80;
/// Bytes of a command: what to do, at which virtual address, and the value written or read.
pub(super) const COMMAND: u64 = 24;
/// Where the value is in a command.
pub(super) const VALUE: u64 = 16;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Code {
    /// Halts.
    End = 0,
    /// Reads a word.
    Read = 1,
    /// Writes a word.
    Write = 2,
    /// Jumps to [code](executable) that returns a word.
    Execute = 3,
    /// Goes out to the host, and goes on as it lets it.
    Pause = 4,
}

// RSI: the next command. R8: `ept_trace_guest_store`, where executed code returns to.
global_asm!(
    ".pushsection .rodata.ept_trace_guest, \"a\"",
    ".globl ept_trace_guest",
    ".globl ept_trace_guest_store",
    ".globl ept_trace_guest_end",
    "ept_trace_guest:",
    "    mov rax, [rsi]",
    "    mov rbx, [rsi + 8]",
    "    mov rcx, [rsi + 16]",
    "    cmp al, 1",
    "    je 1f",
    "    cmp al, 2",
    "    je 2f",
    "    cmp al, 3",
    "    je 3f",
    "    cmp al, 4",
    "    je 4f",
    "    hlt",
    "1:  mov rcx, [rbx]",
    "ept_trace_guest_store:",
    "    mov [rsi + 16], rcx",
    "    jmp 5f",
    "2:  mov [rbx], rcx",
    "    jmp 5f",
    "3:  jmp rbx",
    "4:  out 0x80, al",
    "5:  add rsi, 24",
    "    jmp ept_trace_guest",
    "ept_trace_guest_end:",
    ".popsection",
);

unsafe extern "C" {
    static ept_trace_guest: u8;
    static ept_trace_guest_store: u8;
    static ept_trace_guest_end: u8;
}

/// The program. It runs wherever it is put.
pub(super) fn image() -> &'static [u8] {
    let (start, end) = (&raw const ept_trace_guest, &raw const ept_trace_guest_end);
    // SAFETY: both labels are of the one section above, which is never written.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Where in the program executed code returns to.
pub(super) fn store() -> u64 {
    let (start, store) = (&raw const ept_trace_guest, &raw const ept_trace_guest_store);
    (store.addr() - start.addr()) as u64
}

/// Code that returns this word: `mov rcx, word; jmp r8`, in two words of memory.
fn executable(word: u64) -> [u64; 2] {
    [0xb948 | word << 16, word >> 48 | 0xe0ff41 << 16]
}

/// Puts [code](executable) at an offset of the memory.
pub(super) fn put_executable(memory: &Memory, at: u64, word: u64) {
    let [first, second] = executable(word);
    memory.set_word(at, first);
    memory.set_word(at + 8, second);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_fits_its_page_and_returns_into_itself() {
        let image = image();
        assert!((32..0x1000).contains(&image.len()), "{}", image.len());
        // mov [rsi + 16], rcx: SDM Vol. 2, MOV r/m64, r64.
        let store = usize::try_from(store()).expect("small");
        assert_eq!(image[store..store + 4], [0x48, 0x89, 0x4e, 0x10]);
    }

    #[test]
    fn executable_code_holds_its_word() {
        // SDM Vol. 2, MOV r64, imm64 and JMP r/m64.
        let code = [0x48, 0xb9, 1, 2, 3, 4, 5, 6, 7, 8, 0x41, 0xff, 0xe0, 0, 0, 0];
        let words = executable(0x0807060504030201).map(u64::to_le_bytes);
        assert_eq!(words.concat(), code);
    }
}
