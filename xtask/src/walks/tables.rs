//! EPT or NPT under construction.

use std::collections::BTreeMap;

use walker::protocol::TABLES;

use super::random::Random;

/// Tables at pages by chance, and the entries in them.
pub struct Tables {
    is_ept: bool,
    /// Each table, by its level and the part of the GPA that it is for.
    places: BTreeMap<(u64, u64), u64>,
    entries: BTreeMap<u64, u64>,
    free: Vec<u64>,
}

/// Address bits below a page or table of this level.
fn shift(level: u64) -> u64 {
    12 + 9 * (level - 1)
}

impl Tables {
    /// None yet.
    pub fn new(is_ept: bool, random: &mut Random) -> Self {
        let pages = (TABLES.end - TABLES.start) >> 12;
        let first = random.below(pages);
        let step = random.below(pages / 2) * 2 + 1;
        let page = |number| TABLES.start + (first + number * step) % pages * 0x1000;
        let free = (0..16).map(page).collect();
        Self { is_ept, places: BTreeMap::new(), entries: BTreeMap::new(), free }
    }

    /// The table for this GPA at a level.
    fn table(&mut self, gpa: u64, level: u64) -> u64 {
        let free = &mut self.free;
        let new = || free.pop().expect("two mappings take nine tables at most");
        *self.places.entry((level, gpa >> shift(level + 1))).or_insert_with(new)
    }

    /// The root of so many levels.
    pub fn root(&mut self, levels: u64) -> u64 {
        self.table(0, levels)
    }

    /// Where the entry for this GPA is.
    fn at(&mut self, gpa: u64, level: u64) -> u64 {
        self.table(gpa, level) + (gpa >> shift(level) & 511) * 8
    }

    /// Maps the page of `leaf`'s size with this GPA.
    pub fn map(&mut self, gpa: u64, to: u64, leaf: u64, levels: u64, random: &mut Random) {
        for level in (leaf..=levels).rev() {
            let at = self.at(gpa, level);
            let value = if level == leaf {
                to | self.leaf(leaf, random)
            } else {
                self.table(gpa, level - 1) | self.link(random)
            };
            self.entries.entry(at).or_insert(value);
        }
    }

    /// The lower and upper bits of an entry that maps a page.
    fn leaf(&self, level: u64, random: &mut Random) -> u64 {
        let large = if level == 1 { 0 } else { 1 << 7 };
        if self.is_ept {
            let memory_type = random.pick([6, 6, 6, 0, 1, 4, 5]);
            // IPAT, accessed, dirty, and what is ignored without its control.
            let any = 1 << 6 | 0xb << 8 | 0xfff << 52;
            7 | 1 << 10 | memory_type << 3 | large | random.maybe(any)
        } else {
            // PWT, PCD, accessed, dirty, global, and what is ignored.
            let any = 0x1f << 3 | 0xe << 8 | 0x7ff << 52;
            7 | large | random.maybe(any) & !(1 << 7)
        }
    }

    /// Those of one that leads to a table.
    fn link(&self, random: &mut Random) -> u64 {
        if self.is_ept {
            7 | 1 << 10 | random.maybe(0xb << 8 | 0xfff << 52)
        } else {
            7 | random.maybe(7 << 3 | 1 << 6 | 0xe << 8 | 0x7ff << 52)
        }
    }

    /// The entries: address and value.
    pub fn entries(self) -> BTreeMap<u64, u64> {
        self.entries
    }

    /// Turns some of the way to a GPA over.
    pub fn corrupt(&mut self, gpa: u64, levels: u64, random: &mut Random) {
        let mut way = Vec::new();
        for level in (1..=levels).rev() {
            // Below a large page there is nothing.
            let Some(table) = self.places.get(&(level, gpa >> shift(level + 1))) else { break };
            way.push((table + (gpa >> shift(level) & 511) * 8, level));
        }
        for _ in 0..random.pick([0, 1, 1, 1, 2, 3]) {
            // Rather further down, where the guest's own is not found as well.
            let (at, level) = way[random.index(way.len()).max(random.index(way.len()))];
            let Some(entry) = self.entries.get_mut(&at) else { continue };
            match random.below(10) {
                // Other rights; now and then such as there may not be.
                0..5 if self.is_ept => {
                    *entry &= !0x407;
                    *entry |= random.pick([0, 1, 1, 3, 3, 4, 4, 5, 5, 2, 6]);
                    *entry |= random.maybe(1 << 10);
                }
                0..5 => *entry ^= random.pick([2, 4, 1 << 63, 6, 1, 7]),
                // Another memory type.
                5 if self.is_ept => *entry ^= random.below(8) << 3,
                // Bits that are no address bits of this CPU.
                6 => *entry ^= 1 << random.pick([40, 41, 45, 50, 51]),
                // Address bits below a large page.
                7 if level > 1 => *entry ^= 1 << (12 + random.below(shift(level) - 12)),
                8 => *entry ^= 1 << 7,
                // Any that is no address bit.
                _ => *entry ^= 1 << ((52 + random.below(24)) % 64),
            }
        }
    }
}
