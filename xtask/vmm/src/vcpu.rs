//! A vCPU on a thread of its own, in protected mode without paging: its addresses are GPAs.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::{ADDRESS_SIZES, CODE, PAGE, SMALL_SIZE};

/// The guest's code.
pub const PROGRAM: [u8; 23] = [
    0x8b, 0x03, 0xf4, 0x90, // mov (%ebx), %eax; hlt; nop
    0x89, 0x03, 0xf4, 0x90, // mov %eax, (%ebx); hlt; nop
    0x0f, 0xa2, 0xf4, 0x90, // cpuid; hlt; nop
    0x89, 0x03, 0x81, 0xc3, 0x00, 0x10, 0x00,
    0x00, // next: mov %eax, (%ebx); add $0x1000, %ebx
    0xe2, 0xf6, 0xf4, // loop next; hlt
];
/// How often `next` comes round.
const PAGES: u64 = SMALL_SIZE / PAGE;

/// What a vCPU does until it halts; where its code is.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Reads 4 bytes at a GPA.
    Read = 0,
    /// Writes them.
    Write = 4,
    /// Executes CPUID for a leaf.
    Cpuid = 8,
    /// Writes to each page, from a GPA on.
    Sweep = 12,
}

/// A vCPU's thread, which waits for acts.
pub struct Vcpu {
    acts: Sender<(Act, u64)>,
    done: Receiver<Result<()>>,
}

impl Vcpu {
    /// Creates the vCPU on its thread.
    pub fn start(kvm: &Kvm, vm: &VmFd, id: u64, maxphyaddr: u32) -> Result<Self> {
        let mut cpuid =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("KVM_GET_SUPPORTED_CPUID")?;
        for entry in cpuid.as_mut_slice() {
            if u64::from(entry.function) == ADDRESS_SIZES {
                entry.eax = entry.eax & !0xff | maxphyaddr;
            }
        }
        let mut vcpu = vm.create_vcpu(id).context("KVM_CREATE_VCPU")?;
        vcpu.set_cpuid2(&cpuid).context("KVM_SET_CPUID2")?;
        protected_mode(&vcpu)?;
        let (acts, to_do) = channel::<(Act, u64)>();
        let (tell, done) = channel();
        let thread = thread::Builder::new().name(format!("CPU {id}/KVM"));
        thread.spawn(move || {
            for (act, operand) in to_do {
                let result = run(&mut vcpu, act, operand);
                if tell.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { acts, done })
    }

    /// Has it do something, and waits until it halts.
    pub fn act(&self, act: Act, operand: u64) -> Result<()> {
        let gone = || anyhow!("the vCPU's thread is gone");
        self.acts.send((act, operand)).map_err(|_| gone())?;
        let result = self.done.recv().map_err(|_| gone())?;
        result.with_context(|| format!("{act:?} {operand:#x}"))
    }
}

/// Runs the vCPU until it halts, and answers MMIO.
fn run(vcpu: &mut VcpuFd, act: Act, operand: u64) -> Result<()> {
    let mut regs = vcpu.get_regs().context("KVM_GET_REGS")?;
    regs.rip = CODE + act as u64;
    let count = if let Act::Sweep = act { PAGES } else { 0 };
    // CPUID asks for a leaf in %eax, the others for an address in %ebx.
    (regs.rax, regs.rbx, regs.rcx, regs.rflags) = (operand, operand, count, 2);
    vcpu.set_regs(&regs).context("KVM_SET_REGS")?;
    loop {
        match vcpu.run().context("KVM_RUN")? {
            VcpuExit::Hlt => return Ok(()),
            VcpuExit::MmioRead(_, data) => data.fill(0x5a),
            VcpuExit::MmioWrite(..) => {}
            exit => bail!("the vCPU exits with {exit:?}"),
        }
    }
}

/// Flat segments of 32 bits.
fn protected_mode(vcpu: &VcpuFd) -> Result<()> {
    let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
    let data = kvm_segment {
        limit: u32::MAX,
        selector: 16,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    sregs.cs = kvm_segment { selector: 8, type_: 11, ..data };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr0 |= 1;
    vcpu.set_sregs(&sregs).context("KVM_SET_SREGS")
}
