//! Values of kernel variables, `/proc/kcore`: an ELF core whose segments are kernel memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};

use crate::memory::{Load, core_loads};

/// Kernel memory, readable by address.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    segments: Vec<Load>,
}

impl Kcore {
    /// Opens `/proc/kcore`.
    ///
    /// # Errors
    ///
    /// Where the kernel has none (`CONFIG_PROC_KCORE`), lockdown forbids it, or `CAP_SYS_RAWIO`
    /// is missing.
    pub fn open() -> Result<Self> {
        let path = "/proc/kcore";
        let file = File::open(path).context(path)?;
        let segments = core_loads(&file).context(path)?;
        Ok(Self { file, segments })
    }

    /// Reads `N` bytes at a kernel address.
    ///
    /// # Errors
    ///
    /// If no segment has the address, or reading fails.
    pub fn read<const N: usize>(&self, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from a kernel address on.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let needed = bytes.len() as u64;
        let offset = self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.virtual_address)?;
            let is_inside = needed <= segment.file_size && into <= segment.file_size - needed;
            is_inside.then(|| segment.offset.checked_add(into)).flatten()
        });
        let Some(offset) = offset else {
            bail!("/proc/kcore has no segment for {address:#x}");
        };
        self.file.read_exact_at(bytes, offset).context("/proc/kcore")
    }
}
