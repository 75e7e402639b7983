//! Memory of a guest.
#![expect(clippy::cast_possible_truncation, reason = "a host of 64 bits alone has KVM for x86-64")]

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

/// Anonymous memory for a guest, zeroed.
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
    /// Bytes mapped before the start, for the sake of its alignment.
    before: usize,
}

impl Memory {
    /// So many bytes, from a page boundary.
    pub(super) fn new(size: u64) -> Result<Self> {
        Self::map(size as usize, libc::MAP_NORESERVE).context("no memory for the guest")
    }

    /// So many bytes in pages of 4 KiB alone.
    pub(super) fn small_pages(size: u64) -> Result<Self> {
        let memory = Self::new(size)?;
        // A kernel without transparent huge pages refuses it, and needs it not.
        let _ = memory.advise(0, size, libc::MADV_NOHUGEPAGE);
        Ok(memory)
    }

    /// So many bytes, from a multiple of `alignment`, a power of two.
    pub(super) fn aligned(size: u64, alignment: u64) -> Result<Self> {
        let mut memory = Self::new(size + alignment)?;
        let before = memory.address().wrapping_neg() as usize & (alignment as usize - 1);
        // SAFETY: `before` is less than `alignment`, and so much more than `size` is mapped.
        memory.start = unsafe { memory.start.add(before) };
        memory.before = before;
        memory.size -= before;
        Ok(memory)
    }

    /// So many bytes in pages of `1 << page_bits` bytes that the administrator has set aside.
    pub(super) fn hugetlb(size: u64, page_bits: u32) -> io::Result<Self> {
        let page_size = (page_bits << libc::MAP_HUGE_SHIFT).cast_signed();
        Self::map(size as usize, libc::MAP_HUGETLB | page_size)
    }

    fn map(size: usize, flags: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: a new anonymous mapping, nothing is overlaid.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(address) if start != libc::MAP_FAILED => {
                Ok(Self { start: address, size, before: 0 })
            }
            _ => Err(io::Error::last_os_error()),
        }
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

    /// The word at an offset, a multiple of 8, which a vCPU may be writing just now.
    pub(super) fn word(&self, at: u64) -> u64 {
        self.atomic(at).load(Ordering::Relaxed)
    }

    /// Writes the word at an offset, a multiple of 8, while vCPUs may run.
    pub(super) fn set_word(&self, at: u64, word: u64) {
        self.atomic(at).store(word, Ordering::Relaxed);
    }

    fn atomic(&self, at: u64) -> &AtomicU64 {
        let at = at as usize;
        assert!(at.is_multiple_of(8) && at < self.size, "no word of the memory is at {at:#x}");
        // SAFETY: mapped and aligned, as was just seen; others access it atomically or from a
        // guest, if at all.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// madvise(2) for a part of it.
    pub(super) fn advise(&self, at: u64, size: u64, advice: libc::c_int) -> io::Result<()> {
        let (start, size) = self.part(at, size);
        // SAFETY: within the mapping. Whatever of it is lost, it can still be read and written.
        check(unsafe { libc::madvise(start, size, advice) })
    }

    /// Takes the right to write to a part of it from this process, and with it from the guest, or
    /// gives it back. Nobody writes to it from outside meanwhile.
    pub(super) fn set_writable(&self, at: u64, size: u64, is_writable: bool) -> io::Result<()> {
        let (start, size) = self.part(at, size);
        let write = if is_writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: within the mapping.
        check(unsafe { libc::mprotect(start, size, libc::PROT_READ | write) })
    }

    fn part(&self, at: u64, size: u64) -> (*mut libc::c_void, usize) {
        let (at, size) = (at as usize, size as usize);
        assert!(at <= self.size && size <= self.size - at, "beyond the memory");
        // SAFETY: within the mapping.
        (unsafe { self.start.as_ptr().add(at) }.cast(), size)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped with this length from there, and the VM that used it is gone before.
        unsafe {
            libc::munmap(self.start.as_ptr().sub(self.before).cast(), self.before + self.size)
        };
    }
}
