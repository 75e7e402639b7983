//! A guest, from KVM_CREATE_VM to its HLT.

use anyhow::{Context as _, Result};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use super::memory::Memory;
use super::{Cpuid, Guest, Program, halt, nested, touch};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every vCPU ran its program to the HLT, and what it should write is in memory.
    Halted,
    /// KVM refused a vCPU with this CPUID; which, and why.
    Refused(String),
    /// KVM does not offer what the guest is for; what that is.
    NotOffered(String),
    /// It did not; how it ended instead.
    Otherwise(String),
}

/// Creates the guest, sets its CPUID as planned, and runs each of its vCPUs to the end.
///
/// # Errors
///
/// If KVM refuses any step but a CPUID.
pub(super) fn run(kvm: &Kvm, guest: &Guest) -> Result<Ended> {
    let done = match guest.program {
        Program::Halt => halt::run(kvm, guest),
        Program::Touch { gpa, again } => touch::run(kvm, guest, gpa, again),
        Program::Nested(levels) => nested::run(kvm, guest, levels),
    };
    done.or_else(|err| match err.downcast::<Refused>() {
        Ok(refused) => Ok(Ended::Refused(refused.to_string())),
        Err(err) => Err(err),
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

    /// Gives it a memslot at a GPA; the number of the slot.
    pub(super) fn add_memory(&mut self, gpa: u64, memory: Memory) -> Result<usize> {
        let slot = self.memory.len();
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(slot)?,
            flags: 0,
            guest_phys_addr: gpa,
            memory_size: memory.size(),
            userspace_addr: memory.address(),
        };
        // SAFETY: the memory is mapped, and stays so until after the VM is gone.
        unsafe { self.fd.set_user_memory_region(region) }.with_context(|| {
            format!("KVM_SET_USER_MEMORY_REGION: {:#x} bytes at GPA {gpa:#x}", memory.size())
        })?;
        self.memory.push(memory);
        Ok(slot)
    }

    /// The memory of a slot.
    pub(super) fn memory(&self, slot: usize) -> &Memory {
        &self.memory[slot]
    }

    /// The memory of a slot, to be written while no vCPU runs.
    pub(super) fn memory_mut(&mut self, slot: usize) -> &mut Memory {
        &mut self.memory[slot]
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
