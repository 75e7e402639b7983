//! Page tables of 4 or 5 levels, in the formats that L1 needs.

use crate::frames::{Frames, LARGE, PAGE, Page};

/// What the entries look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// EPT: SDM Vol. 3C, "EPT Translation Mechanism".
    Ept,
    /// The CPU's own: SDM Vol. 3A §4.5. Nested page tables of SVM are such: APM Vol. 2 §15.25.
    Paging,
}

/// Entries of both formats that map a large page have this bit set: PS.
const PAGE_SIZE: u64 = 1 << 7;
/// EPT: read, write, execute.
const EPT_RWX: u64 = 0b111;
/// EPT: memory type write-back, in entries that map a page.
const EPT_WRITE_BACK: u64 = 6 << 3;
/// Paging: present, writable, user. All nested accesses of SVM are user accesses.
const PAGING_RWU: u64 = 0b111;
/// The address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Format {
    fn table(self) -> u64 {
        match self {
            Self::Ept => EPT_RWX,
            Self::Paging => PAGING_RWU,
        }
    }

    fn page(self) -> u64 {
        match self {
            Self::Ept => EPT_RWX | EPT_WRITE_BACK,
            Self::Paging => PAGING_RWU,
        }
    }
}

/// The size of a page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
}

impl Size {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Small => PAGE,
            Self::Large => LARGE,
        }
    }
}

/// Page tables.
pub struct Tables {
    format: Format,
    levels: u64,
    /// What must be added to the address of a table to get the one by which it is walked.
    shift: u64,
    root: &'static mut Page,
}

impl Tables {
    /// Empty tables of so many levels.
    pub fn new(format: Format, levels: u64, shift: u64, frames: &mut Frames) -> Self {
        Self { format, levels, shift, root: frames.page() }
    }

    /// The root's address, by which it is walked.
    pub fn root(&self) -> u64 {
        self.root.address() + self.shift
    }

    /// Maps a page; `false` if something is mapped there already.
    pub fn map(&mut self, address: u64, to: u64, size: Size, frames: &mut Frames) -> bool {
        let lowest = if size == Size::Large { 2 } else { 1 };
        let mut table = &mut *self.root;
        for level in (lowest + 1..=self.levels).rev() {
            let entry = &mut table.0[index(address, level)];
            if *entry == 0 {
                let next = frames.page().address() + self.shift;
                *entry = next | self.format.table();
            } else if *entry & PAGE_SIZE != 0 {
                return false;
            }
            let next = (*entry & ADDRESS) - self.shift;
            // SAFETY: an entry of ours that maps no large page leads to a page from `frames`,
            // which nothing else refers to.
            table = unsafe { &mut *core::ptr::with_exposed_provenance_mut(next as usize) };
        }
        let entry = &mut table.0[index(address, lowest)];
        if *entry != 0 {
            return false;
        }
        let page_size = if size == Size::Large { PAGE_SIZE } else { 0 };
        *entry = to | self.format.page() | page_size;
        true
    }
}

/// The place of an address in a table of a level; level 1 maps pages of 4 KiB.
fn index(address: u64, level: u64) -> usize {
    (address >> (12 + 9 * (level - 1)) & 511) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: usize) -> Frames {
        let pages: Vec<Page> = (0..count).map(|_| Page([0; 512])).collect();
        let from = pages.leak().as_ptr().expose_provenance() as u64;
        // SAFETY: leaked, so nothing else uses it.
        unsafe { Frames::new(from, from + count as u64 * PAGE) }
    }

    /// The entries from the root to the last.
    fn walk(tables: &Tables, address: u64) -> Vec<u64> {
        let mut entries = Vec::new();
        let mut table: *const Page = &raw const *tables.root;
        for level in (1..=tables.levels).rev() {
            // SAFETY: no entry below is followed unless it leads to a table.
            let entry = unsafe { &*table }.0[index(address, level)];
            entries.push(entry);
            if entry == 0 || entry & PAGE_SIZE != 0 || level == 1 {
                break;
            }
            table = core::ptr::with_exposed_provenance((entry & ADDRESS) as usize);
        }
        entries
    }

    #[test]
    fn a_walk_has_as_many_entries_as_levels() {
        for levels in [4, 5] {
            let mut frames = frames(16);
            let mut tables = Tables::new(Format::Ept, levels, 0, &mut frames);
            let far = 1 << 50 | 0x1234_5000;
            assert!(tables.map(far, 0x9000, Size::Small, &mut frames));
            let entries = walk(&tables, far);
            assert_eq!(entries.len() as u64, levels);
            let (leaf, above) = entries.split_last().expect("entries");
            assert_eq!(*leaf, 0x9000 | 0b11_0111, "read, write, execute, write-back");
            assert!(above.iter().all(|entry| entry & !ADDRESS == 0b111), "{above:x?}");
        }
    }

    #[test]
    fn a_large_page_ends_the_walk_one_level_earlier() {
        let mut frames = frames(16);
        let mut tables = Tables::new(Format::Paging, 4, 0, &mut frames);
        assert!(tables.map(0x4000_0000, 0x20_0000, Size::Large, &mut frames));
        let entries = walk(&tables, 0x4012_3000);
        assert_eq!((entries.len(), entries[2]), (3, 0x20_0000 | 0b1000_0111));
        assert!(!tables.map(0x4012_3000, 0x9000, Size::Small, &mut frames), "it is mapped");
        assert!(!tables.map(0x4000_0000, 0x20_0000, Size::Large, &mut frames), "it is mapped");
    }
}
