//! Bytes that come piece by piece, and of which records are taken.

use std::ops::Range;

use super::bytes::{u32_at, u64_at};

/// `perf_event_header`: the type, bits that depend on it, and the size of all.
pub const HEADER: usize = 8;
/// Of several records, which are of 64 KiB at most.
const SIZE: usize = 256 << 10;
/// `PERF_RECORD_USER_TYPE_START`: below are the kernel's types, from here on those of perf.
const FIRST_OF_PERF: u32 = 64;

/// The header of a record.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// `PERF_RECORD_*`.
    pub kind: u32,
    /// Of the record with its header, in bytes.
    pub size: usize,
}

impl Header {
    /// The header at the begin of these bytes, if they have all of it.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self { kind: u32_at(bytes, 0)?, size: (u64_at(bytes, 0)? >> 48) as usize })
    }

    /// Whether a record can have it. Types that are not yet are let through.
    #[inline]
    pub fn is_possible(self) -> bool {
        let is_aligned = self.size.is_multiple_of(8) || self.kind >= FIRST_OF_PERF;
        self.size >= HEADER && is_aligned && matches!(self.kind, 1..32 | FIRST_OF_PERF..128)
    }

    /// What is wrong with it.
    pub fn complaint(self) -> String {
        format!("no record is of type {} and {} bytes", self.kind, self.size)
    }
}

/// The bytes.
#[derive(Debug)]
pub struct Window {
    bytes: Box<[u8]>,
    held: Range<usize>,
}

impl Window {
    pub fn new() -> Self {
        Self { bytes: vec![0; SIZE].into(), held: 0..0 }
    }

    /// What came and was not yet taken.
    #[inline]
    pub fn held(&self) -> &[u8] {
        &self.bytes[self.held.clone()]
    }

    /// Takes so many, or all; where they are, until there is room made.
    #[inline]
    pub fn take(&mut self, size: usize) -> Range<usize> {
        let begin = self.held.start;
        self.held.start = (begin + size).min(self.held.end);
        begin..self.held.start
    }

    /// Goes back to the begin of what was taken, if there was no room made since.
    pub fn go_back(&mut self, taken: &Range<usize>) {
        self.held.start = taken.start.min(self.held.start);
    }

    /// What was taken.
    #[inline]
    pub fn taken(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Room for more. Then tell of how many came.
    pub fn room(&mut self) -> &mut [u8] {
        if self.held.start > 0 {
            self.bytes.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        &mut self.bytes[self.held.end..]
    }

    /// So many came.
    pub fn came(&mut self, size: usize) {
        self.held.end += size;
    }
}
