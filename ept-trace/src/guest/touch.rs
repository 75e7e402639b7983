//! The guest that writes a word at a GPA of choice, and reads it back; again and again, if asked to.

use std::io;

use anyhow::Result;
use kvm_bindings::kvm_regs;
use kvm_ioctls::Kvm;

use super::Guest;
use super::long_mode::{LARGE_PAGE, Tables};
use super::memory::Memory;
use super::vm::{Ended, Vm, run_to_halt};

/// Low memory of a guest that touches a GPA, in bytes from GPA 0: code, page tables, and what was
/// read back.
pub const MEMORY: u64 = 64 << 10;
const CODE: u64 = 0x1000;
/// Where the word that was read back is left.
const READ_BACK: u64 = 0x2000;
const TABLES: u64 = 0x3000;
/// The virtual address of the large page that the GPA is in.
const WINDOW: u64 = LARGE_PAGE;
const PAGE: u64 = 0x1000;
/// The word.
const MARK: u64 = 0x4550_5420_7472_6163;

/// `mov [rbx], rax; mov rcx, [rbx]; mov [rdi], rcx; hlt`, and back to the start.
const PROGRAM: [u8; 12] = [0x48, 0x89, 0x03, 0x48, 0x8b, 0x0b, 0x48, 0x89, 0x0f, 0xf4, 0xeb, 0xf4];

/// Runs every vCPU of the guest; `again` for each line on stdin. The page of the GPA is a memslot of
/// its own.
pub(super) fn run(kvm: &Kvm, guest: &Guest, gpa: u64, again: bool) -> Result<Ended> {
    let mut vm = Vm::new(kvm)?;
    let mut memory = Memory::new(MEMORY)?;
    memory.write(CODE, &PROGRAM);
    let tables = Tables::new(&mut memory, TABLES, 4);
    tables.map(&mut memory, 0, 0);
    tables.map(&mut memory, WINDOW, gpa & !(LARGE_PAGE - 1));
    let low = vm.add_memory(0, memory)?;
    let touched = vm.add_memory(gpa & !(PAGE - 1), Memory::new(PAGE)?)?;

    for (id, cpuids) in (0..).zip(&guest.vcpus) {
        let mut vcpu = vm.create_vcpu(id, cpuids)?;
        let mark = MARK + id;
        let regs = kvm_regs {
            rip: CODE,
            rax: mark,
            rbx: WINDOW + gpa % LARGE_PAGE,
            rdi: READ_BACK,
            ..Default::default()
        };
        tables.enter(&vcpu, cpuids, &regs)?;
        let mut touch = || {
            if let Some(how) = run_to_halt(id, &mut vcpu)? {
                return Ok(Some(how));
            }
            let written = vm.memory(touched).read(gpa % PAGE);
            let read_back = vm.memory(low).read(READ_BACK);
            let words = [(written, "written"), (read_back, "read back")];
            let mut words = words.map(|(word, what)| (u64::from_le_bytes(word), what)).into_iter();
            let wrong = words.find(|(word, _)| *word != mark);
            anyhow::Ok(wrong.map(|(word, what)| {
                format!("vCPU {id} halts, and {word:#x} was {what} at GPA {gpa:#x}, not {mark:#x}")
            }))
        };
        let mut wrong = touch()?;
        // Who sends lines may be at work on the VM's tables, so it stays until the last of them.
        while again && io::stdin().read_line(&mut String::new())? > 0 {
            wrong = touch()?.or(wrong);
        }
        if let Some(how) = wrong {
            return Ok(Ended::Otherwise(how));
        }
    }
    Ok(Ended::Halted)
}
