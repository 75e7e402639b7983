//! Places in the tables of a VM, and the entries that they hold.

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

/// The entries at a place; there is hardly ever more than one.
pub(super) type Held = SmallVec<[u64; 1]>;

/// What is at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The entries that are not empty, as they were told last.
    pub(super) entries: Held,
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

impl Place {
    /// Where its entries lead.
    pub(super) fn mappings(&self, level: u8) -> impl Iterator<Item = Mapping> {
        self.entries.iter().filter_map(move |entry| Mapping::of(*entry, level))
    }
}

impl Tables {
    /// The entries at a place that are not empty.
    pub(super) fn entries(&self, key: Key) -> Held {
        self.places.get(&key).map_or_else(Held::new, |place| Held::from_slice(&place.entries))
    }

    /// The tables that a place is in; of roots nothing is known.
    pub(super) fn above(&self, key: Key) -> Above {
        let at = key.parent().and_then(|parent| Some((parent, self.places.get(&parent)?)));
        at.map_or_else(Above::default, |(parent, at)| Above {
            tables: at.mappings(parent.level()).filter(|entry| entry.is_table).count(),
            had_table: at.had_table,
            is_unknown: at.is_unknown,
        })
    }

    /// An entry still leads where it did, and is another: whether it is there.
    pub(super) fn mark(&mut self, key: Key, stays: Mapping, entry: u64) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        let Some(index) = place.mappings(key.level()).position(|at| at == stays) else {
            return false;
        };
        place.entries[index] = entry;
        true
    }

    /// Takes an entry out, if it is there.
    pub(super) fn take(&mut self, key: Key, entry: Mapping) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        let Some(index) = place.mappings(key.level()).position(|at| at == entry) else {
            return false;
        };
        place.entries.swap_remove(index);
        self.shape.take(key.level(), entry.is_table);
        if place.entries.is_empty() && !place.had_table {
            self.places.remove(&key);
        }
        true
    }

    /// Puts an entry in that leads somewhere; before, there was `old`.
    pub(super) fn put(&mut self, key: Key, entry: u64, old: Option<Mapping>) {
        let place = self.places.entry(key).or_default();
        place.entries.push(entry);
        let is_table = Mapping::of(entry, key.level()).is_some_and(|new| new.is_table);
        self.shape.put(key.level(), is_table);
        place.had_table |= is_table;
        // A page is split: the entries of the new table are made from it, and not told.
        place.is_unknown |= is_table && old.is_some_and(|old| !old.is_table);
    }

    /// What is wrong with a place: it holds more entries than there are tables for it.
    pub(super) fn fault_at(&self, key: Key) -> Option<Fault> {
        self.fault_in(key, self.above(key))
    }

    /// The same, where the tables that it is in are known already.
    pub(super) fn fault_in(&self, key: Key, above: Above) -> Option<Fault> {
        key.parent()?;
        let held = self.places.get(&key).map_or(0, |place| place.entries.len());
        if above.is_unknown || held <= above.tables {
            return None;
        }
        Some(match above {
            Above { tables: 1.., .. } => Fault::Occupied,
            Above { had_table: true, .. } => Fault::Zapped,
            _ => Fault::NeverLinked,
        })
    }

    /// After a finding nothing more is said of the same table.
    pub(super) fn give_up(&mut self, key: Key) {
        if let Some(parent) = key.parent() {
            self.places.entry(parent).or_default().is_unknown = true;
        }
    }
}
