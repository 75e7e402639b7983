//! Model-specific registers, `/dev/cpu/0/msr`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

const IA32_VMX_PROCBASED_CTLS: u64 = 0x482;
const IA32_VMX_PROCBASED_CTLS2: u64 = 0x48b;
const IA32_VMX_EPT_VPID_CAP: u64 = 0x48c;

/// The registers of one CPU.
#[derive(Debug)]
pub struct Msrs {
    file: File,
}

impl Msrs {
    /// Opens those of CPU 0.
    ///
    /// # Errors
    ///
    /// If the module `msr` is not loaded, or `CAP_SYS_RAWIO` is missing.
    pub fn open() -> Result<Self> {
        let path = "/dev/cpu/0/msr";
        let file = File::open(path).with_context(|| format!("{path}: try `modprobe msr`"))?;
        Ok(Self { file })
    }

    fn read(&self, number: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, number)
            .with_context(|| format!("MSR {number:#x} of CPU 0"))?;
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
