//! A guest, from KVM_CREATE_VM to its HLT.

use std::fmt;

use anyhow::{Context as _, Result};
use ept_trace_common::decision::DEFAULT_MAXPHYADDR;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use super::memory::Memory;
use super::{Cpuid, Guest, Program, halt, touch};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every vCPU ran its program to the HLT, and what it should write is in memory.
    Halted,
    /// KVM refused a vCPU with this CPUID; which, and why.
    Refused(String),
    /// It did not; how it ended instead.
    Otherwise(String),
}

/// Creates the guest, sets its CPUID as planned, and runs each of its vCPUs to the end.
pub fn run(kvm: &Kvm, guest: &Guest) -> Ended {
    let done = match guest.program {
        Program::Halt => halt::run(kvm, guest),
        Program::Touch { gpa, again } => touch::run(kvm, guest, gpa, again),
    };
    done.unwrap_or_else(|err| match err.downcast_ref::<Refused>() {
        Some(refused) => Ended::Refused(refused.to_string()),
        None => Ended::Otherwise(format!("{err:#}")),
    })
}

/// KVM refused a vCPU for its CPUID.
#[derive(Debug, thiserror::Error)]
#[error("{call} is refused for a vCPU with {cpuid}: {why}")]
struct Refused {
    call: &'static str,
    cpuid: Cpuid,
    why: kvm_ioctls::Error,
}

/// A memslot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its number.
    pub(super) number: u32,
    /// Where it begins.
    pub(super) gpa: u64,
    /// In bytes.
    pub(super) size: u64,
    /// The number of its memory, which it has from the start.
    pub(super) memory: usize,
    /// KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY.
    pub(super) flags: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, gpa, size, flags, .. } = self;
        write!(f, "KVM_SET_USER_MEMORY_REGION: slot {number}, {size:#x} bytes at GPA {gpa:#x}, ")?;
        write!(f, "flags {flags:#x}")
    }
}

/// A VM with its memory.
pub(super) struct Vm {
    // Dropped in this order: the VM before the memory that it uses.
    fd: VmFd,
    memory: Vec<Memory>,
    supported: CpuId,
}

impl Vm {
    /// A VM without memory.
    pub(super) fn new(kvm: &Kvm) -> Result<Self> {
        let fd = kvm.create_vm().context("KVM_CREATE_VM")?;
        // Intel CPUs without unrestricted guests run real mode in a TSS of KVM's.
        fd.set_tss_address(0xfffb_d000).context("KVM_SET_TSS_ADDR")?;
        let supported =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("KVM_GET_SUPPORTED_CPUID")?;
        Ok(Self { fd, memory: Vec::new(), supported })
    }

    /// Gives it a memslot at a GPA; the number of the slot, and of its memory.
    pub(super) fn add_memory(&mut self, gpa: u64, memory: Memory) -> Result<usize> {
        let size = memory.size();
        let memory = self.hold(memory);
        let slot = Slot { number: u32::try_from(memory)?, gpa, size, memory, flags: 0 };
        self.set_slot(slot)?;
        Ok(memory)
    }

    /// Keeps memory for slots to come, until the VM is gone; its number.
    pub(super) fn hold(&mut self, memory: Memory) -> usize {
        self.memory.push(memory);
        self.memory.len() - 1
    }

    /// Creates, moves, changes or, with size 0, deletes a memslot.
    pub(super) fn set_slot(&self, slot: Slot) -> Result<()> {
        self.try_slot(slot).with_context(|| slot.to_string())
    }

    /// The same; KVM's own error, where it is to refuse it.
    pub(super) fn try_slot(&self, slot: Slot) -> Result<(), kvm_ioctls::Error> {
        let memory = self.memory(slot.memory);
        assert!(slot.size <= memory.size(), "a slot is no larger than its memory");
        let region = kvm_userspace_memory_region {
            slot: slot.number,
            flags: slot.flags,
            guest_phys_addr: slot.gpa,
            memory_size: slot.size,
            userspace_addr: memory.address(),
        };
        // SAFETY: so much memory is mapped there, and stays so until after the VM is gone.
        unsafe { self.fd.set_user_memory_region(region) }
    }

    /// KVM_GET_DIRTY_LOG: a bit for each page written since it was last asked for.
    pub(super) fn dirty_log(&self, slot: Slot) -> Result<Vec<u64>> {
        let size = usize::try_from(slot.size)?;
        self.fd.get_dirty_log(slot.number, size).context("KVM_GET_DIRTY_LOG")
    }

    /// The memory of this number.
    pub(super) fn memory(&self, slot: usize) -> &Memory {
        &self.memory[slot]
    }

    /// The memory of this number, to be written while no vCPU runs.
    pub(super) fn memory_mut(&mut self, slot: usize) -> &mut Memory {
        &mut self.memory[slot]
    }

    /// MAXPHYADDR in bits that KVM supports: EAX\[7:0\] of leaf 0x80000008.
    pub(super) fn maxphyaddr(&self) -> u8 {
        let mut entries = self.supported.as_slice().iter();
        let sizes = entries.find(|entry| entry.function == 0x80000008);
        sizes.map_or(DEFAULT_MAXPHYADDR, |entry| entry.eax.to_le_bytes()[0])
    }

    /// The CPUID that KVM supports.
    pub(super) fn supported(&self) -> &CpuId {
        &self.supported
    }

    /// Creates a vCPU, and sets its CPUIDs one after the other.
    pub(super) fn create_vcpu(&self, id: u64, cpuids: &[Cpuid]) -> Result<VcpuFd> {
        let vcpu = self.fd.create_vcpu(id).context("KVM_CREATE_VCPU")?;
        for &cpuid in cpuids {
            vcpu.set_cpuid2(&cpuid.within(&self.supported)?).map_err(|why| Refused {
                call: "KVM_SET_CPUID2",
                cpuid,
                why,
            })?;
        }
        Ok(vcpu)
    }
}

/// KVM_SET_SREGS. KVM refuses it with a MAXPHYADDR that the APIC's address does not fit into: one
/// below 32, and up to 5.10 one whose remainder by 64 is.
pub(super) fn set_sregs(vcpu: &VcpuFd, cpuids: &[Cpuid], sregs: &kvm_sregs) -> Result<()> {
    let call = "KVM_SET_SREGS";
    vcpu.set_sregs(sregs).map_err(|why| match cpuids.last() {
        Some(&cpuid) if cpuid.effective_maxphyaddr() % 64 < 32 => {
            Refused { call, cpuid, why }.into()
        }
        _ => anyhow::Error::new(why).context(call),
    })
}

/// Runs a vCPU to its HLT; if it exits otherwise, how.
pub(super) fn run_to_halt(id: u64, vcpu: &mut VcpuFd) -> Result<Option<String>> {
    Ok(match vcpu.run().context("KVM_RUN")? {
        VcpuExit::Hlt => None,
        exit => Some(format!("vCPU {id} exits with {exit:?}")),
    })
}
