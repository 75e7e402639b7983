//! Many addresses and one kind of access.
//!
//! What makes an entry ordinary, for this access, is worked out beforehand: which bits are set and
//! which are clear. The entries of tables are ORed and ANDed on the way down and looked at once; one
//! of a page is looked at by itself, for it has a memory type. Whatever is out of the ordinary, a
//! large page included, goes the other way.

use super::bits::{ADDRESS, shift};
use super::entry::{LARGE, READ, rights};
use super::{Access, Ept, Outcome, PhysRead, Rights};
use crate::model::{Gpa, Hpa};

/// Addresses that agree in the bits from this one on share all but the last level of a walk.
const REGION: u32 = 21;

/// What makes an entry ordinary for an access.
#[derive(Clone, Copy)]
struct Screen {
    /// Of a table: these bits are set,
    table_set: u64,
    /// and these clear.
    table_clear: u64,
    /// Of a page: these bits are clear,
    page_clear: u64,
    /// and bits 5:0 have none of these values.
    page_low: u64,
}

impl Screen {
    /// Whether the entry of a page is ordinary.
    #[inline(always)]
    const fn passes(self, entry: u64) -> bool {
        entry & self.page_clear == 0 && self.page_low >> (entry & 0x3f) & 1 == 0
    }
}

impl Ept {
    /// Translates many addresses, soonest if those of the same 2 MiB are neighbours: `hpas` get where
    /// each leads to. What does not go through is told to `denied`, by its place in `gpas`, and gets
    /// all ones. The memory is taken not to change meanwhile. Of `gpas` and `hpas` the longer one's
    /// rest is left alone.
    ///
    /// Accessed and dirty flags that a walk would set are [`Ept::translate`]'s to tell.
    pub fn translate_all(
        &self,
        memory: &impl PhysRead,
        gpas: &[Gpa],
        access: &Access,
        hpas: &mut [Hpa],
        mut denied: impl FnMut(usize, Outcome),
    ) {
        let mut one = |place, gpa| self.one(memory, gpa, access, |outcome| denied(place, outcome));
        if !self.is_ordinary(access) {
            for (place, (&gpa, hpa)) in gpas.iter().zip(hpas).enumerate() {
                *hpa = one(place, gpa);
            }
            return;
        }
        let screen = self.screen(access);
        match self.levels {
            5 => self.ordinary::<5>(memory, gpas, screen, hpas, one),
            _ => self.ordinary::<4>(memory, gpas, screen, hpas, one),
        }
    }

    /// Translates what is ordinary, and asks `other` about the rest.
    #[inline(always)]
    fn ordinary<const LEVELS: u8>(
        &self,
        memory: &impl PhysRead,
        gpas: &[Gpa],
        screen: Screen,
        hpas: &mut [Hpa],
        mut other: impl FnMut(usize, Gpa) -> Hpa,
    ) {
        // The first region that the tables, or the CPU, do not reach.
        let end = 1_u64 << (u32::from(self.reach()).max(REGION) - REGION);
        // No address is of this region.
        let mut region = u64::MAX;
        let mut table = None;
        for (place, (&gpa, hpa)) in gpas.iter().zip(hpas).enumerate() {
            if gpa.0 >> REGION != region {
                region = gpa.0 >> REGION;
                table = self.table_of_pages::<LEVELS>(memory, gpa.0, screen);
                table = table.filter(|_| region < end);
            }
            let entry = table.and_then(|table| memory.read_u64(Hpa(table | slot(gpa.0, 1))));
            *hpa = match entry {
                Some(entry) if screen.passes(entry) => Hpa(entry & ADDRESS | gpa.0 & 0xfff),
                _ => other(place, gpa),
            };
        }
    }

    /// One address that is out of the ordinary.
    #[cold]
    #[inline(never)]
    fn one(
        &self,
        memory: &impl PhysRead,
        gpa: Gpa,
        access: &Access,
        denied: impl FnOnce(Outcome),
    ) -> Hpa {
        match self.translate(memory, gpa, access) {
            Outcome::Translation(translation) => translation.hpa,
            outcome => {
                denied(outcome);
                Hpa(u64::MAX)
            }
        }
    }

    fn screen(&self, access: &Access) -> Screen {
        let needs = self.needs(access);
        let denies = |low: u64| !rights(low & 7).contains(needs);
        let low = (0..64_u64).filter(|low| self.extraordinary >> low & 1 != 0 || denies(*low));
        Screen {
            // What can be read is not misconfigured for its rights.
            table_set: READ | u64::from((needs & (Rights::WRITE | Rights::EXECUTE)).bits()),
            table_clear: self.format.reserved(0, 2) | LARGE,
            page_clear: self.format.reserved(0, 1),
            page_low: low.fold(0, |bits, low| bits | 1 << low),
        }
    }

    /// The table of PTEs for an address; `None` if anything on the way to it is out of the ordinary,
    /// a large page included.
    #[inline(always)]
    fn table_of_pages<const LEVELS: u8>(
        &self,
        memory: &impl PhysRead,
        gpa: u64,
        screen: Screen,
    ) -> Option<u64> {
        let mut odd = 0;
        let mut step = |table: u64, level| {
            let entry = memory.read_u64(Hpa(table | slot(gpa, level)))?;
            odd |= entry ^ screen.table_set;
            Some(entry & ADDRESS)
        };
        let mut table = self.root;
        if LEVELS == 5 {
            table = step(table, 5)?;
        }
        table = step(table, 4)?;
        table = step(table, 3)?;
        table = step(table, 2)?;
        (odd & (screen.table_clear | screen.table_set) == 0).then_some(table)
    }
}

/// Where the entry for an address is in a table of this level.
#[inline(always)]
const fn slot(gpa: u64, level: u8) -> u64 {
    gpa >> (shift(level) - 3) & 0xff8
}
