//! The same answer sooner, for the ordinary case.
//!
//! The ordinary access goes through, with nothing but rights, addresses, and accessed and dirty
//! flags to look at. What does not fit is ORed together on the way down and looked at once; then
//! the exact walk answers.

use super::bits::{ADDRESS, index, offset, page};
use super::entry::{ACCESSED, DIRTY, LARGE, READ, leaf_memory, rights};
use super::{Access, Ept, Outcome, PhysRead, Rights, Translation};
use crate::model::{Gpa, Hpa};

/// A way down to what maps a stretch of 2 MiB: a table of PTEs, or a leaf above it.
#[derive(Clone, Copy)]
struct Descent {
    /// The entry that was read last.
    entry: u64,
    /// Its level, 2 or 3.
    level: u8,
    /// Not 0 if something is out of the ordinary.
    odd: u64,
    /// All entries, ANDed.
    all: u64,
    /// Levels whose accessed flag is clear.
    not_accessed: u8,
}

impl Ept {
    /// Translates an address: the outcome of [`Ept::walk`], sooner.
    #[inline]
    pub fn translate(&self, memory: &impl PhysRead, gpa: Gpa, access: &Access) -> Outcome {
        match self.arrive(memory, gpa.0, self.needs(access), &self.approach(memory, gpa.0)) {
            Some(translation) if self.is_ordinary(access) => Outcome::Translation(translation),
            _ => self.exact(memory, gpa, access),
        }
    }

    /// Whether nothing but the ordinary rules can apply to an access that goes through. Sub-page
    /// permissions and #VE matter to denials only, which are the exact walk's anyway.
    pub(super) fn is_ordinary(&self, access: &Access) -> bool {
        let controls = &self.cpu.controls;
        !(controls.mbe
            || controls.paging_write
            || controls.pml_index.is_some()
            || self.is_controlled_shadow_stack(access))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn exact(&self, memory: &impl PhysRead, gpa: Gpa, access: &Access) -> Outcome {
        self.walk(memory, gpa, access).outcome
    }

    /// Bits of an address that the tables, and the CPU, reach.
    #[inline(always)]
    pub(super) fn reach(&self) -> u8 {
        if self.levels == 4 { 48 } else { 52 }.min(self.cpu.gpa_width())
    }

    /// The way down, before its first step.
    #[inline(always)]
    fn descent(&self, gpa: u64) -> Descent {
        Descent {
            entry: self.root,
            level: self.levels + 1,
            odd: gpa >> self.reach(),
            all: u64::MAX,
            not_accessed: 0,
        }
    }

    /// Down to the table of PTEs or a leaf above it.
    #[inline(always)]
    fn approach(&self, memory: &impl PhysRead, gpa: u64) -> Descent {
        let mut descent = self.descent(gpa);
        if self.levels == 5 {
            self.step(&mut descent, memory, gpa, 5);
        }
        self.step(&mut descent, memory, gpa, 4);
        self.step(&mut descent, memory, gpa, 3);
        if descent.entry & LARGE == 0 {
            self.step(&mut descent, memory, gpa, 2);
        }
        descent
    }

    /// The rest of the way, and what comes of it; `None` if something is out of the ordinary.
    #[inline(always)]
    fn arrive(
        &self,
        memory: &impl PhysRead,
        gpa: u64,
        needs: Rights,
        descent: &Descent,
    ) -> Option<Translation> {
        let mut descent = *descent;
        if descent.entry & LARGE == 0 {
            self.step(&mut descent, memory, gpa, 1);
        }
        let Descent { entry, level, odd, all, not_accessed } = descent;
        let rights = rights(all & 7);
        if odd != 0 || !rights.contains(needs) {
            return None;
        }
        Some(Translation {
            hpa: Hpa(page(entry, level) | offset(gpa, level)),
            level,
            rights,
            memory: leaf_memory(entry),
            accessed: if self.accessed_dirty { not_accessed } else { 0 },
            dirty: self.accessed_dirty && needs.contains(Rights::WRITE) && entry & DIRTY == 0,
            via: None,
        })
    }

    /// One level down. An entry that the memory does not have counts as 0, which is not present.
    #[inline(always)]
    fn step(&self, descent: &mut Descent, memory: &impl PhysRead, gpa: u64, level: u8) {
        let table = descent.entry & ADDRESS;
        let at = Hpa(table | u64::from(index(gpa, level)) << 3);
        let entry = memory.read_u64(at).unwrap_or(0);
        descent.odd |= entry & self.format.reserved(entry, level)
            | self.extraordinary >> (entry & 0x3f) & READ;
        descent.all &= entry;
        descent.not_accessed |= u8::from(entry & ACCESSED == 0) << (level - 1);
        descent.entry = entry;
        descent.level = level;
    }
}
