//! The guest that does little: real mode, a word written, HLT.

use anyhow::{Context as _, Result};
use kvm_ioctls::{Kvm, VcpuFd};

use super::memory::Memory;
use super::vm::{Ended, Vm, run_to_halt, set_sregs};
use super::{Cpuid, Guest};

/// Guest memory in bytes, from GPA 0.
const MEMORY: u64 = 64 << 10;
/// Where the code is, and where execution begins.
const CODE: u64 = 0x1000;
/// Where the code of vCPU n leaves its mark: at this GPA, plus 2 n.
const MARK_AT: u64 = 0x2000;
/// The mark.
const MARK: u16 = 0x4e50;

/// `mov [bx], ax; hlt`.
const PROGRAM: [u8; 3] = [0x89, 0x07, 0xf4];

/// Runs every vCPU of the guest.
pub(super) fn run(kvm: &Kvm, guest: &Guest) -> Result<Ended> {
    let mut vm = Vm::new(kvm)?;
    let mut memory = Memory::new(MEMORY)?;
    memory.write(CODE, &PROGRAM);
    let low = vm.add_memory(0, memory)?;

    let mut vcpus = Vec::new();
    for (id, cpuids) in (0..).zip(&guest.vcpus) {
        let vcpu = vm.create_vcpu(id, cpuids)?;
        point(&vcpu, cpuids, MARK_AT + 2 * id)?;
        vcpus.push(vcpu);
    }
    for (id, vcpu) in (0..).zip(&mut vcpus) {
        if let Some(how) = run_to_halt(id, vcpu)? {
            return Ok(Ended::Otherwise(how));
        }
        let mark = u16::from_le_bytes(vm.memory(low).read(MARK_AT + 2 * id));
        if mark != MARK {
            let ended =
                format!("vCPU {id} halts, and {mark:#x} is where it should write {MARK:#x}");
            return Ok(Ended::Otherwise(ended));
        }
    }
    Ok(Ended::Halted)
}

/// Points a new vCPU, which is in real mode, at the program.
fn point(vcpu: &VcpuFd, cpuids: &[Cpuid], mark_at: u64) -> Result<()> {
    let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    set_sregs(vcpu, cpuids, &sregs)?;
    let mut regs = vcpu.get_regs().context("KVM_GET_REGS")?;
    regs.rip = CODE;
    regs.rax = u64::from(MARK);
    regs.rbx = mark_at;
    regs.rflags = 2;
    vcpu.set_regs(&regs).context("KVM_SET_REGS")
}
