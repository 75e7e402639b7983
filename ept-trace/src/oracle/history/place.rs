//! Places in the tables of a VM, and the entries that they hold.

use std::collections::hash_map::Entry;

use smallvec::SmallVec;

use super::{Fault, Tables};
use crate::oracle::spte::Mapping;

/// Roots have this level or the next one. Of what is in a root, no table tells.
pub(super) const LOWEST_ROOT: u8 = 4;

/// The bits of a frame's number.
const FRAME: u64 = (1 << 52) - 1;

/// A place: of each root that reaches it, one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The first frame of the guest that the entry is for, of 52 bits; and above it the level and
    /// the address space.
    packed: u64,
}

/// What is at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The entries that are not empty, as they were told last; there is hardly ever more than one.
    pub(super) entries: SmallVec<[u64; 1]>,
    /// There was a table here.
    had_table: bool,
    /// A table here has entries that nobody told.
    pub(super) is_unknown: bool,
}

/// What is known of the tables that a place is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Above {
    /// How many are linked.
    pub(super) tables: usize,
    /// One was.
    pub(super) had_table: bool,
    /// One has entries that nobody told, or nothing is said of it any more.
    pub(super) is_unknown: bool,
}

/// What a change has made of a place.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The entry that was to be replaced is not there.
    pub(super) is_missing: bool,
    /// The entries that were there before, of a change that may be wrong.
    pub(super) left: Vec<u64>,
    /// How many there are now.
    pub(super) held: usize,
}

impl Key {
    pub(super) fn new(as_id: u8, level: u8, gfn: u64) -> Self {
        let gfn = gfn & !(frames(level) - 1) & FRAME;
        Self { packed: gfn | u64::from(level & 0xf) << 52 | u64::from(as_id) << 56 }
    }

    pub(super) fn as_id(self) -> u8 {
        (self.packed >> 56) as u8
    }

    pub(super) fn level(self) -> u8 {
        (self.packed >> 52 & 0xf) as u8
    }

    pub(super) fn gfn(self) -> u64 {
        self.packed & FRAME
    }

    /// Index of the entry in its table.
    pub(super) fn index(self) -> u64 {
        (self.gfn() / frames(self.level())) & 0x1ff
    }

    /// The place of the entry that links the table that this one is in.
    pub(super) fn above(self) -> Option<Self> {
        (self.level() < 5).then(|| Self::new(self.as_id(), self.level() + 1, self.gfn()))
    }

    /// The same, unless the table may be a root.
    fn parent(self) -> Option<Self> {
        self.above().filter(|_| self.level() < LOWEST_ROOT)
    }
}

/// How many frames of 4 KiB an entry is for; 1 for what is no level.
fn frames(level: u8) -> u64 {
    match level {
        1..=6 => 1 << (9 * (level - 1)),
        _ => 1,
    }
}

impl Above {
    /// What is wrong with a place that holds so many entries: they are more than there are tables
    /// for it.
    pub(super) fn fault_of(self, key: Key, held: usize) -> Option<Fault> {
        key.parent()?;
        if self.is_unknown || held <= self.tables {
            return None;
        }
        Some(match self {
            Self { tables: 1.., .. } => Fault::Occupied,
            Self { had_table: true, .. } => Fault::Zapped,
            _ => Fault::NeverLinked,
        })
    }
}

impl Place {
    /// Puts an entry in; before, there was `old`. Whether it leads to a table.
    fn put(&mut self, level: u8, entry: u64, old: Option<Mapping>) -> bool {
        let is_table = Mapping::of(entry, level).is_some_and(|new| new.is_table);
        self.entries.push(entry);
        self.had_table |= is_table;
        // A page is split: the entries of the new table are made from it, and not told.
        self.is_unknown |= is_table && old.is_some_and(|old| !old.is_table);
        is_table
    }

    /// Which of its entries leads there.
    fn index_of(&self, level: u8, to: Mapping) -> Option<usize> {
        self.entries.iter().position(|entry| Mapping::of(*entry, level) == Some(to))
    }

    /// Where its entries lead.
    pub(super) fn mappings(&self, level: u8) -> impl Iterator<Item = Mapping> {
        self.entries.iter().filter_map(move |entry| Mapping::of(*entry, level))
    }
}

impl Tables {
    /// The entries at a place that are not empty.
    pub(super) fn entries(&self, key: Key) -> &[u64] {
        self.places.get(&key).map_or(&[], |place| &place.entries)
    }

    /// The tables that a place is in; of roots nothing is known.
    pub(super) fn above(&self, key: Key) -> Above {
        let Some(parent) = key.parent() else { return Above::default() };
        let Some(at) = self.places.get(&parent) else { return Above::default() };
        Above {
            tables: at.mappings(parent.level()).filter(|entry| entry.is_table).count(),
            had_table: at.had_table,
            is_unknown: at.is_unknown,
        }
    }

    /// An entry still leads where it did, and is another.
    pub(super) fn mark(&mut self, key: Key, stays: Option<Mapping>, entry: u64) -> Changed {
        let Some(stays) = stays else { return Changed::default() };
        let place = self.places.get_mut(&key);
        let at = place.and_then(|place| {
            let index = place.index_of(key.level(), stays)?;
            place.entries.get_mut(index)
        });
        match at {
            Some(at) => {
                *at = entry;
                Changed::default()
            }
            None => {
                Changed { is_missing: true, left: self.entries(key).to_vec(), ..Changed::default() }
            }
        }
    }

    /// Takes an entry out, if it is there, and puts one in.
    pub(super) fn replace(&mut self, key: Key, old: Option<Mapping>, new: Option<u64>) -> Changed {
        let level = key.level();
        let mut at = match self.places.entry(key) {
            Entry::Occupied(at) => at,
            Entry::Vacant(at) => {
                if let Some(entry) = new {
                    let place = at.insert(Place::default());
                    self.shape.put(level, place.put(level, entry, old));
                }
                let held = usize::from(new.is_some());
                return Changed { is_missing: old.is_some(), left: Vec::new(), held };
            }
        };
        let place = at.get_mut();
        let taken = old.and_then(|old| Some((place.index_of(level, old)?, old)));
        if let (Some((_, old)), None, [_]) = (taken, new, &place.entries[..])
            && !place.had_table
        {
            self.shape.take(level, old.is_table);
            at.remove();
            return Changed::default();
        }
        let left = place.entries.to_vec();
        if let Some((index, old)) = taken {
            self.shape.take(level, old.is_table);
            place.entries.swap_remove(index);
            // What is empty and had no table is forgotten, as above.
            place.is_unknown &= place.had_table || !place.entries.is_empty();
        }
        if let Some(entry) = new {
            self.shape.put(level, place.put(level, entry, old));
        }
        let held = place.entries.len();
        Changed { is_missing: old.is_some() && taken.is_none(), left, held }
    }

    /// What is wrong with a place.
    pub(super) fn fault_at(&self, key: Key) -> Option<Fault> {
        let held = self.places.get(&key).map_or(0, |place| place.entries.len());
        self.above(key).fault_of(key, held)
    }

    /// After a finding nothing more is said of the same table.
    pub(super) fn give_up(&mut self, key: Key) {
        if let Some(parent) = key.parent() {
            self.places.entry(parent).or_default().is_unknown = true;
        }
    }
}
