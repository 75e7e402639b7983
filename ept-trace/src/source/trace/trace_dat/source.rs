//! The file, as far as all CPUs read it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::compression::Decompressor;

/// What the CPUs of an instance share.
pub struct Source {
    pub file: Arc<File>,
    /// In bytes.
    pub page_size: usize,
    /// What may be read ahead for a CPU, in bytes; a page at least.
    pub most_ahead: usize,
    pub decompressor: Decompressor,
    /// What a chunk has in the file.
    pub stored: Vec<u8>,
}

/// So many bytes of pages are read at once, if that may be.
const WINDOW: usize = 256 << 10;

impl Source {
    /// A whole number of pages to read at once.
    pub fn window(&self) -> usize {
        let window = WINDOW.min(self.most_ahead) / self.page_size.max(1) * self.page_size;
        window.max(self.page_size)
    }

    /// trace-cmd compresses 10 pages at once, and a chunk that says more than this lies.
    pub fn most_chunk(&self) -> usize {
        WINDOW.max(self.page_size.saturating_mul(16)).min(self.most_ahead)
    }

    /// Fills `buffer` from `at` on; less only at the file's end.
    pub fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], at.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(read)
    }
}
