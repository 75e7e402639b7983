//! What the changes tell of the tables as a whole: how large they are, and the way to an address.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Key;
use super::{History, LOG, Mapping};

/// The tables of a VM at one level, when they were at their largest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelShape {
    /// Number of the VM; 0 for all VMs of a log together.
    pub vm: u32,
    /// The level: 1 for tables whose entries map 4 KiB, 5 for a root of 5 levels.
    pub level: u8,
    /// Tables of this level; roots are not told, and one is taken for granted.
    pub tables: u64,
    /// Entries in them that map a page.
    pub leaves: u64,
}

/// How many entries there are, by the level of the table that they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// That lead to a table, and that map a page.
    by_level: [(u64, u64); 5],
    all: u64,
}

/// The entries of a VM, and as they were when there were most of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    now: Counts,
    largest: Counts,
}

impl Shape {
    /// An entry is put in.
    pub(super) fn put(&mut self, level: u8, is_table: bool) {
        self.now.all += 1;
        if let Some(count) = self.now.of(level, is_table) {
            *count += 1;
        }
        if self.now.all > self.largest.all {
            self.largest = self.now;
        }
    }

    /// An entry is taken out.
    pub(super) fn take(&mut self, level: u8, is_table: bool) {
        self.now.all = self.now.all.saturating_sub(1);
        if let Some(count) = self.now.of(level, is_table) {
            *count = count.saturating_sub(1);
        }
    }

    /// The largest, level by level, from the root down.
    pub(super) fn levels(&self, vm: u32) -> impl Iterator<Item = LevelShape> {
        let by_level = self.largest.by_level;
        let has = |(tables, leaves): (u64, u64)| tables + leaves > 0;
        let root = by_level.iter().rposition(|counts| has(*counts));
        (0..=4_u8).rev().filter_map(move |index| {
            let at = usize::from(index);
            let tables = match by_level.get(at + 1).filter(|_| Some(at) < root) {
                Some((tables, _)) => *tables,
                None if Some(at) == root => 1,
                None => 0,
            };
            let shape = LevelShape { vm, level: index + 1, tables, leaves: by_level[at].1 };
            (shape.tables + shape.leaves > 0).then_some(shape)
        })
    }
}

impl Counts {
    fn of(&mut self, level: u8, is_table: bool) -> Option<&mut u64> {
        let (tables, leaves) = self.by_level.get_mut(usize::from(level).checked_sub(1)?)?;
        Some(if is_table { tables } else { leaves })
    }
}

impl History {
    /// The tables of the VMs whose history is whole, or was until they went.
    pub fn shape(&self) -> Vec<LevelShape> {
        let now = self.vms.iter().filter(|(_, tables)| tables.is_whole);
        let now = now.flat_map(|(vm, tables)| tables.shape.levels(*vm));
        self.gone.iter().cloned().chain(now).collect()
    }

    /// The entries that the changes of a log have left on the way to a frame, from a root of this
    /// level down: until one leads no further, or is not known.
    ///
    /// # Errors
    ///
    /// If there are several at a place, and so several roots, of which it is not told which is which.
    pub fn way_in_log(&self, gfn: u64, root_level: u8) -> Result<Vec<u64>, String> {
        let mut entries = Vec::with_capacity(root_level.into());
        let Some(tables) = self.vms.get(&LOG) else { return Ok(entries) };
        for level in (1..=root_level.min(5)).rev() {
            let held = tables.entries(Key::new(0, level, gfn));
            match *held {
                [] => break,
                [entry] => {
                    entries.push(entry);
                    if Mapping::of(entry, level).is_none_or(|to| !to.is_table) {
                        break;
                    }
                }
                _ => return Err(format!("there are {} tables of level {level}", held.len())),
            }
        }
        Ok(entries)
    }
}
