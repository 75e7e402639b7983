//! Host-physical memory, to walk tables in: a dump, or this machine's own.
//!
//! A format is told by its content, and never by a name. All but kdump-compressed come down to
//! `extents::Extents`: which addresses lie where in the file. Files are read where they are
//! needed, a page at a time, and may be larger than this machine's memory.

mod bytes;
mod elf;
mod entries;
mod error;
mod extents;
mod flattened;
mod format;
#[cfg(feature = "live")]
mod kcore;
mod kdump;
mod lime;
mod lzo;
mod page;
mod raw;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::Path;

use bytes::{Bytes, Opened, read_vec};
pub use entries::Entries;
pub use error::{MemoryError, Trouble};
use extents::Extents;
use kdump::Kdump;
#[cfg(feature = "live")]
pub use {elf::Load, kcore::core_loads};

use crate::ept::PhysRead;
use crate::model::Hpa;

/// Pages that are kept: a table of each level, for a walk that comes back to them.
const KEPT: usize = 8;
/// Memory is read by pages of this size, where it lies together.
const PAGE: u64 = 4096;

/// How the addresses of a format are found.
enum Layout {
    Extents(Extents),
    Kdump(Kdump),
}

/// A part of memory, as it was read.
#[derive(Clone, Debug, Default)]
struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    fn u64(&self, at: u64) -> Option<u64> {
        let into = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(into..into.checked_add(8)?)?;
        Some(bytes::u64_at(bytes, 0))
    }
}

/// Host-physical memory.
pub struct Memory {
    file: String,
    format: &'static str,
    bytes: Box<dyn Bytes>,
    layout: Layout,
    /// What the user should know before believing what is read.
    notes: Vec<String>,
    kept: RefCell<[Chunk; KEPT]>,
    next_kept: Cell<usize>,
    /// The first read that failed, other than by not being in the dump.
    trouble: RefCell<Option<Trouble>>,
}

impl Memory {
    /// Opens a dump. `map` says where memory is in a raw one; without it, it is memory from
    /// address 0 up.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is damaged, or is of a kind that cannot be walked; the message says
    /// where and what to do.
    pub fn open(dump: &Path, map: Option<&Path>) -> Result<Self, MemoryError> {
        let in_file = |path: &Path| {
            let file = path.display().to_string();
            move |trouble| MemoryError { file, trouble }
        };
        let at_start = |source| Trouble::Io { at: 0, source };
        let map = map
            .map(|path| {
                let text = fs::read_to_string(path).map_err(at_start);
                let map = text.and_then(|text| raw::mapped(&text).map_err(Trouble::Refused));
                map.map_err(in_file(path))
            })
            .transpose()?;
        File::open(dump)
            .map_err(at_start)
            .and_then(Opened::new)
            .and_then(|bytes| Self::of(dump.display().to_string(), Box::new(bytes), map))
            .map_err(in_file(dump))
    }

    /// This machine's own memory, by `/proc/kcore`.
    ///
    /// # Errors
    ///
    /// Where the kernel has none (`CONFIG_PROC_KCORE`), lockdown forbids it, or `CAP_SYS_RAWIO` is
    /// missing.
    #[cfg(feature = "live")]
    pub fn live() -> Result<Self, MemoryError> {
        let file = kcore::PATH.to_owned();
        match kcore::open() {
            Ok(found) => Ok(Self::new(file, found)),
            Err(trouble) => Err(MemoryError { file, trouble }),
        }
    }

    /// Memory in the bytes of a file, by the format that they have.
    fn of(file: String, bytes: Box<dyn Bytes>, map: Option<Extents>) -> Result<Self, Trouble> {
        let found = format::find(bytes, map)?;
        Ok(Self::new(file, found))
    }

    fn new(file: String, found: format::Found) -> Self {
        Self {
            file,
            format: found.name,
            bytes: found.bytes,
            layout: found.layout,
            notes: found.notes,
            kept: RefCell::default(),
            next_kept: Cell::new(0),
            trouble: RefCell::default(),
        }
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The name of its format.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// What the user should know before believing what is read: that it is cut off, or how it was
    /// understood.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Why an address may not be in it, if it tells.
    pub fn why_missing(&self) -> Option<String> {
        match &self.layout {
            Layout::Kdump(kdump) => kdump.why_missing(),
            Layout::Extents(_) => None,
        }
    }

    /// The first read that failed since this was last asked. Its address was answered as not in
    /// the dump.
    pub fn take_trouble(&self) -> Option<MemoryError> {
        let trouble = self.trouble.take()?;
        Some(MemoryError { file: self.file.clone(), trouble })
    }

    fn chunk(&self, at: u64) -> Result<Option<Chunk>, Trouble> {
        match &self.layout {
            Layout::Kdump(kdump) => {
                let block = kdump.block(&*self.bytes, at)?;
                Ok(block.map(|(start, bytes)| Chunk { start, bytes }))
            }
            Layout::Extents(extents) => {
                let Some(extent) = extents.find_within(at, PAGE) else { return Ok(None) };
                // At most PAGE.
                let bytes = read_vec(&*self.bytes, extent.length, extent.offset)?;
                Ok(Some(Chunk { start: extent.start, bytes }))
            }
        }
    }
}

impl PhysRead for Memory {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        if let Some(value) = self.kept.borrow().iter().find_map(|chunk| chunk.u64(at.0)) {
            return Some(value);
        }
        match self.chunk(at.0) {
            Ok(None) => None,
            Ok(Some(chunk)) => {
                let value = chunk.u64(at.0);
                let next = self.next_kept.get();
                self.kept.borrow_mut()[next] = chunk;
                self.next_kept.set((next + 1) % KEPT);
                value
            }
            Err(trouble) => {
                self.trouble.borrow_mut().get_or_insert(trouble);
                None
            }
        }
    }
}
