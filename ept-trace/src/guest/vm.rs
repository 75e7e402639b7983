//! One guest, from KVM_CREATE_VM to its HLT.

use std::ptr::{self, NonNull};
use std::slice;

use anyhow::{Context as _, Result, bail};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VmFd};

use super::{Cpuid, Guest};

/// Guest memory, from GPA 0.
const MEMORY: usize = 64 << 10;
/// Where the code is, and where execution begins.
const CODE: usize = 0x1000;
/// Where the code of vCPU n leaves its mark: at this GPA, plus 2 n.
const MARK_AT: usize = 0x2000;
/// The mark.
const MARK: u16 = 0x4e50;

/// `mov [bx], ax; hlt`.
const PROGRAM: [u8; 3] = [0x89, 0x07, 0xf4];

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every vCPU ran its program to the HLT, and its mark is in memory.
    Halted,
    /// It did not; how it ended instead.
    Otherwise(String),
}

/// Anonymous memory for a guest.
struct Memory {
    start: NonNull<u8>,
}

impl Memory {
    fn new() -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping, nothing is overlaid.
        let start = unsafe { libc::mmap(ptr::null_mut(), MEMORY, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("no memory for the guest");
        }
        let start = NonNull::new(start.cast()).context("no memory for the guest")?;
        Ok(Self { start })
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: MEMORY bytes are mapped at `start`, and no vCPU runs while it is written.
        let memory = unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), MEMORY) };
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&self, at: usize) -> u16 {
        // SAFETY: MEMORY bytes are mapped at `start`; the vCPUs that write there have halted.
        let memory = unsafe { slice::from_raw_parts(self.start.as_ptr(), MEMORY) };
        u16::from_le_bytes([memory[at], memory[at + 1]])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and the VM that used it is gone before.
        unsafe { libc::munmap(self.start.as_ptr().cast(), MEMORY) };
    }
}

/// Creates the guest, sets its CPUID as planned, and runs each of its vCPUs to the end.
///
/// # Errors
///
/// If KVM refuses any step.
pub fn run(kvm: &Kvm, guest: &Guest) -> Result<Ended> {
    // Dropped in reverse order: the VM before the memory that it uses.
    let mut memory = Memory::new()?;
    memory.write(CODE, &PROGRAM);
    let vm = kvm.create_vm().context("KVM_CREATE_VM")?;
    // Intel CPUs without unrestricted guests run real mode in a TSS of KVM's.
    vm.set_tss_address(0xfffb_d000).context("KVM_SET_TSS_ADDR")?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: memory.start.as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the memory is mapped, and stays so until after the VM is gone.
    unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;
    let supported =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("KVM_GET_SUPPORTED_CPUID")?;

    let mut vcpus = Vec::new();
    for id in 0..guest.vcpus {
        vcpus.push(create_vcpu(&vm, id, guest.cpuid, &supported)?);
    }
    for (id, vcpu) in vcpus.iter_mut().enumerate() {
        match vcpu.run().context("KVM_RUN")? {
            VcpuExit::Hlt => {}
            exit => return Ok(Ended::Otherwise(format!("vCPU {id} exits with {exit:?}"))),
        }
        let mark = memory.word(MARK_AT + 2 * id);
        if mark != MARK {
            let ended =
                format!("vCPU {id} halts, and {mark:#x} is where it should write {MARK:#x}");
            return Ok(Ended::Otherwise(ended));
        }
    }
    Ok(Ended::Halted)
}

fn create_vcpu(vm: &VmFd, id: u32, cpuid: Cpuid, supported: &CpuId) -> Result<kvm_ioctls::VcpuFd> {
    let vcpu = vm.create_vcpu(u64::from(id)).context("KVM_CREATE_VCPU")?;
    let set = |cpuid: &CpuId| vcpu.set_cpuid2(cpuid).context("KVM_SET_CPUID2");
    match cpuid {
        Cpuid::Maxphyaddr(bits) => set(&with_maxphyaddr(supported, bits)?)?,
        Cpuid::Changed(first, then) => {
            set(&with_maxphyaddr(supported, first)?)?;
            set(&with_maxphyaddr(supported, then)?)?;
        }
        Cpuid::LeafAbsent => {
            let others: Vec<_> = supported
                .as_slice()
                .iter()
                .filter(|entry| entry.function != 0x80000008)
                .copied()
                .collect();
            set(&CpuId::from_entries(&others).context("too many CPUID entries")?)?;
        }
    }
    let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu.set_sregs(&sregs).context("KVM_SET_SREGS")?;
    let mut regs = vcpu.get_regs().context("KVM_GET_REGS")?;
    regs.rip = CODE as u64;
    regs.rax = u64::from(MARK);
    regs.rbx = MARK_AT as u64 + 2 * u64::from(id);
    regs.rflags = 2;
    vcpu.set_regs(&regs).context("KVM_SET_REGS")?;
    Ok(vcpu)
}

/// The supported CPUID with another MAXPHYADDR.
fn with_maxphyaddr(supported: &CpuId, bits: u8) -> Result<CpuId> {
    let mut cpuid = supported.clone();
    let leaf = cpuid.as_mut_slice().iter_mut().find(|entry| entry.function == 0x80000008);
    let Some(leaf) = leaf else {
        bail!("this KVM has no CPUID leaf 0x80000008 to set MAXPHYADDR in");
    };
    leaf.eax = leaf.eax & !0xff | u32::from(bits);
    Ok(cpuid)
}
