//! What the changes tell of the tables as a whole: how large they are, and the way to an address.

use serde::{Deserialize, Serialize};

use super::place::Key;
use super::{History, LOG, Mapping};

/// The entries of one level of a VM's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelShape {
    /// Number of the VM; 0 for all VMs of a log together.
    pub vm: u32,
    /// The level: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub level: u8,
    /// Entries that lead to a table.
    pub tables: u64,
    /// Entries that map a page.
    pub leaves: u64,
}

impl History {
    /// The tables of every VM whose history is whole, from the highest level down.
    pub fn shape(&self) -> Vec<LevelShape> {
        let mut shapes = Vec::new();
        for (vm, tables) in &self.vms {
            for level in (1..=5).rev() {
                let mut shape = LevelShape { vm: *vm, level, ..LevelShape::default() };
                let at_level = tables.places.iter().filter(|(key, _)| key.level() == level);
                for mapping in at_level.flat_map(|(_, place)| place.mappings(level)) {
                    *if mapping.is_table { &mut shape.tables } else { &mut shape.leaves } += 1;
                }
                if shape.tables + shape.leaves > 0 {
                    shapes.push(shape);
                }
            }
        }
        shapes
    }

    /// The entries that the changes of a log have left on the way to a frame, from a root of this
    /// level down: until one leads no further, or is not known.
    ///
    /// # Errors
    ///
    /// If there are several at a place, and so several roots, of which it is not told which is which.
    pub fn way_in_log(&self, gfn: u64, root_level: u8) -> Result<Vec<u64>, String> {
        let mut entries = Vec::new();
        let Some(tables) = self.vms.get(&LOG) else { return Ok(entries) };
        for level in (1..=root_level.min(5)).rev() {
            let held = tables.entries(Key::new(0, level, gfn));
            match held[..] {
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
