//! Model-specific registers, `/dev/cpu/*/msr`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

const IA32_VMX_PROCBASED_CTLS: u32 = 0x482;
const IA32_VMX_PROCBASED_CTLS2: u32 = 0x48b;
/// What EPT and VPID can do; SDM Vol. 3D §A.10.
pub const IA32_VMX_EPT_VPID_CAP: u32 = 0x48c;

/// The registers of one CPU.
#[derive(Debug)]
pub struct Msrs {
    cpu: u32,
    file: File,
}

/// The CPUs whose registers can be read, in the order of their numbers.
pub fn cpus() -> Vec<u32> {
    let entries = fs::read_dir("/dev/cpu").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut cpus: Vec<u32> = numbers.collect();
    cpus.sort_unstable();
    cpus
}

impl Msrs {
    /// Opens those of a CPU.
    ///
    /// # Errors
    ///
    /// If the module `msr` is not loaded, or `CAP_SYS_RAWIO` is missing.
    pub fn open(cpu: u32) -> Result<Self> {
        let path = format!("/dev/cpu/{cpu}/msr");
        let file = File::open(&path).with_context(|| format!("{path}: try `modprobe msr`"))?;
        Ok(Self { cpu, file })
    }

    fn read(&self, number: u32) -> Result<u64> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, u64::from(number))
            .with_context(|| format!("MSR {number:#x} of CPU {}", self.cpu))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `IA32_VMX_EPT_VPID_CAP`; SDM Vol. 3D §A.10.
    ///
    /// # Errors
    ///
    /// If the CPU has no such register.
    pub fn ept_vpid_cap(&self) -> Result<u64> {
        self.read(IA32_VMX_EPT_VPID_CAP)
    }

    /// Whether EPT may be enabled: the secondary controls exist (bit 31 of the allowed ones of
    /// the primary) and offer it (bit 1); SDM Vol. 3D §A.3.
    ///
    /// # Errors
    ///
    /// If the CPU has no such registers.
    pub fn offers_ept(&self) -> Result<bool> {
        let has_secondary = self.read(IA32_VMX_PROCBASED_CTLS)? & 1 << 63 != 0;
        Ok(has_secondary && self.read(IA32_VMX_PROCBASED_CTLS2)? & 1 << 33 != 0)
    }
}
