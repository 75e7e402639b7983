//! Memory of the guest, and the clock.

use std::io;
use std::ptr;

use anyhow::{Context as _, Result};

use crate::LARGE_PAGE;

/// Anonymous memory, zeroed, from a multiple of 2 MiB. It stays as long as the process.
pub struct Memory {
    start: *mut u8,
    size: usize,
}

impl Memory {
    /// So many bytes in pages of 4 KiB alone.
    pub fn small_pages(size: u64) -> Result<Self> {
        let memory = Self::new(size)?;
        // A kernel without transparent huge pages refuses it, and needs it not.
        let _ = memory.advise(0, size, libc::MADV_NOHUGEPAGE);
        Ok(memory)
    }

    /// So many bytes in pages of 2 MiB, if there are any, all of them there.
    pub fn large_pages(size: u64) -> Result<Self> {
        let memory = Self::new(size)?;
        memory.advise(0, size, libc::MADV_HUGEPAGE).context("MADV_HUGEPAGE")?;
        for page in (0..size).step_by(usize::try_from(LARGE_PAGE)?) {
            memory.write(page, &[1]);
        }
        Ok(memory)
    }

    fn new(size: u64) -> Result<Self> {
        let (size, alignment) = (usize::try_from(size)?, usize::try_from(LARGE_PAGE)?);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping, nothing is overlaid.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), size + alignment, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("no memory for the guest");
        }
        let start = start.cast::<u8>();
        // SAFETY: less than `alignment`, and so much more than `size` is mapped.
        let start = unsafe { start.add(start.align_offset(alignment)) };
        Ok(Self { start, size })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size as u64
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    /// Writes at an offset.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let part = self.part(at, bytes.len() as u64);
        // SAFETY: mapped, and no vCPU runs meanwhile.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), part, bytes.len()) }
    }

    /// Gives pages back to the kernel; they are zero when they are touched again.
    pub fn discard(&self, at: u64, size: u64) -> Result<()> {
        self.advise(at, size, libc::MADV_DONTNEED).context("MADV_DONTNEED")
    }

    fn advise(&self, at: u64, size: u64, advice: libc::c_int) -> io::Result<()> {
        let part = self.part(at, size).cast();
        let size = usize::try_from(size).map_err(io::Error::other)?;
        // SAFETY: within the mapping. Whatever of it is lost, it can still be read and written.
        match unsafe { libc::madvise(part, size, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn part(&self, at: u64, size: u64) -> *mut u8 {
        assert!(at + size <= self.size(), "beyond the memory");
        let at = usize::try_from(at).unwrap_or_default();
        // SAFETY: within the mapping.
        unsafe { self.start.add(at) }
    }
}

/// CLOCK_MONOTONIC, as a log with `mono` has it.
pub fn monotonic_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills `time`, and keeps nothing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    #[expect(clippy::cast_precision_loss, reason = "of no consequence for years of uptime")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}
