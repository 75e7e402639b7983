//! The pages that L1 has to give.

/// The size of a page in bytes.
pub const PAGE: u64 = 4096;
/// The size of a large page in bytes.
pub const LARGE: u64 = 2 << 20;

/// A page of 4 KiB as words.
#[repr(C, align(4096))]
pub struct Page(pub [u64; 512]);

impl Page {
    /// Puts bytes at its begin.
    pub fn write(&mut self, bytes: &[u8]) {
        for (word, bytes) in self.0.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
    }

    /// Its address. L1's memory is mapped to itself, so this is its physical address too.
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }
}

/// Zeroed pages, handed out once and never taken back.
pub struct Frames {
    next: *mut Page,
    left: u64,
}

impl Frames {
    /// All pages from one address up to another.
    ///
    /// # Safety
    ///
    /// The memory between must be there, be zero, and be used by nothing else.
    pub unsafe fn new(from: u64, to: u64) -> Self {
        let next = core::ptr::with_exposed_provenance_mut(from as usize);
        Self { next, left: (to - from) / PAGE }
    }

    /// The address of the next page.
    pub fn next_address(&self) -> u64 {
        self.next.expose_provenance() as u64
    }

    /// The next page.
    ///
    /// # Panics
    ///
    /// If there is none left: that is a bug, for what is needed does not vary.
    pub fn page(&mut self) -> &'static mut Page {
        assert!(self.left > 0, "out of pages");
        self.left -= 1;
        // SAFETY: within what `new` was given, and handed out only once; all zeros is a `Page`.
        unsafe {
            let page = &mut *self.next;
            self.next = self.next.add(1);
            page
        }
    }
}
