//! The tables of a VM as memory, to be walked.

use std::collections::{HashMap, HashSet};

use super::place::{Key, LOWEST_ROOT};
use super::{History, Mapping, Tables};
use crate::ept::PhysRead;
use crate::model::Hpa;

/// Of the root no change tells where it is. No table of KVM's is at this address.
pub const ROOT: Hpa = Hpa(0);

/// The entries that changes have left, at the addresses where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Level of the root.
    pub root_level: u8,
    /// Places that several roots have entries at: which is whose is not told, and none is here.
    pub ambiguous: usize,
    entries: HashMap<u64, u64>,
    /// Of these every entry is told: what is not among them is empty.
    tables: HashSet<u64>,
}

impl History {
    /// The VMs of which everything was told; 0 is all of a log together.
    pub fn whole_vms(&self) -> impl Iterator<Item = u32> {
        self.vms.iter().filter(|(_, tables)| tables.is_whole).map(|(vm, _)| *vm)
    }

    /// The tables of a VM, but those of system-management mode.
    pub fn image(&self, vm: u32) -> Option<Image> {
        let tables = self.vms.get(&vm).filter(|tables| tables.is_whole)?;
        let places = || tables.places.iter().filter(|(key, _)| key.as_id() == 0);
        let root_level = places().map(|(key, _)| key.level()).max()?.max(LOWEST_ROOT);
        let mut image = Image { root_level, ..Image::default() };
        image.tables.insert(ROOT.0);
        for (key, place) in places() {
            match (tables.table_of(*key, root_level), &place.entries[..]) {
                (_, []) => {}
                (Some(table), [entry]) => {
                    image.entries.insert(table + key.index() * 8, *entry);
                    let below = Mapping::of(*entry, key.level()).filter(|to| to.is_table);
                    if let Some(below) = below.filter(|_| !place.is_unknown) {
                        image.tables.insert(below.address);
                    }
                }
                _ => image.ambiguous += 1,
            }
        }
        Some(image)
    }
}

impl Tables {
    /// The address of the table that a place is in, if there is just one.
    fn table_of(&self, key: Key, root_level: u8) -> Option<u64> {
        if key.level() == root_level {
            return Some(ROOT.0);
        }
        let parent = key.above()?;
        match *self.entries(parent) {
            [entry] => Mapping::of(entry, parent.level()).filter(|to| to.is_table),
            _ => None,
        }
        .map(|to| to.address)
    }
}

impl PhysRead for Image {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        let told = self.entries.get(&at.0).copied();
        told.or_else(|| self.tables.contains(&(at.0 & !0xfff)).then_some(0))
    }
}
