//! Memory of a guest.
#![expect(clippy::cast_possible_truncation, reason = "a host of 64 bits alone has KVM for x86-64")]

use std::ptr::{self, NonNull};
use std::slice;

use anyhow::{Context as _, Result};

/// Anonymous memory for a guest, zeroed.
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

impl Memory {
    /// So many bytes, from a page boundary.
    pub(super) fn new(size: u64) -> Result<Self> {
        let size = size as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping, nothing is overlaid.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("no memory for the guest");
        }
        let start = NonNull::new(start.cast()).context("no memory for the guest")?;
        Ok(Self { start, size })
    }

    /// Where it is in this process.
    pub(super) fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Writes at an offset.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        // SAFETY: `size` bytes are mapped at `start`, and no vCPU runs while it is written.
        let memory = unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.size) };
        let at = at as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// What is at an offset.
    pub(super) fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        // SAFETY: `size` bytes are mapped at `start`; the vCPUs that write there have halted.
        let memory = unsafe { slice::from_raw_parts(self.start.as_ptr(), self.size) };
        let mut bytes = [0; N];
        let at = at as usize;
        bytes.copy_from_slice(&memory[at..at + N]);
        bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and the VM that used it is gone before.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}
