//! Which stretch of an address space lies where in a file.

use std::collections::BTreeMap;

use super::error::Trouble;

/// More stretches than this are refused: they would need more than some 200 MB. The dumps of the
/// largest machines have a few hundred; a flattened one has one for each write of makedumpfile.
const MOST: usize = 1 << 22;

/// A stretch of addresses, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first address.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The offset in the file of its first byte.
    pub offset: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.start + self.length
    }

    /// What is left of it from `start` to `end`; nothing if it has no such address.
    fn cut(&self, start: u64, end: u64) -> Option<Self> {
        let from = self.start.max(start);
        let to = self.end().min(end);
        let extent = Self {
            start: from,
            length: to.checked_sub(from)?,
            offset: self.offset + (from.saturating_sub(self.start)),
        };
        (extent.length > 0).then_some(extent)
    }
}

/// Stretches that do not overlap.
#[derive(Debug, Default)]
pub struct Extents(BTreeMap<u64, Extent>);

impl Extents {
    /// Adds a stretch. It takes the place of what was known of the same addresses, as a later
    /// write would. What lies past the last address or offset there can be is cut off.
    pub fn insert(&mut self, start: u64, length: u64, offset: u64) -> Result<(), Trouble> {
        let length = length.min(u64::MAX - start).min(u64::MAX - offset);
        let new = Extent { start, length, offset };
        if length == 0 {
            return Ok(());
        }
        // Stretches do not overlap: those that overlap the new one are the last that begin before
        // its end.
        while let Some((_, &old)) = self.0.range(..new.end()).next_back()
            && old.end() > start
        {
            self.0.remove(&old.start);
            if let Some(after) = old.cut(new.end(), u64::MAX) {
                self.0.insert(after.start, after);
            }
            if let Some(before) = old.cut(0, start) {
                self.0.insert(before.start, before);
            }
        }
        if self.0.len() >= MOST {
            let what = format!("more than {MOST} separate parts: too many to be kept");
            return Err(Trouble::bad(offset, what));
        }
        match self.0.range_mut(..start).next_back() {
            Some((_, old)) if old.end() == start && old.offset + old.length == offset => {
                old.length = old.length.saturating_add(length);
            }
            _ => {
                self.0.insert(start, new);
            }
        }
        Ok(())
    }

    /// The stretch that has address `at`.
    pub fn find(&self, at: u64) -> Option<Extent> {
        let (_, &extent) = self.0.range(..=at).next_back()?;
        (at < extent.end()).then_some(extent)
    }

    /// What of the stretch that has `at` lies in the `size` bytes, a power of two, around it.
    pub fn find_within(&self, at: u64, size: u64) -> Option<Extent> {
        let start = at & !(size - 1);
        self.find(at)?.cut(start, start.saturating_add(size))
    }

    /// The first stretch that begins after `at`.
    pub fn next_after(&self, at: u64) -> Option<Extent> {
        let (_, &extent) = self.0.range(at.checked_add(1)?..).next()?;
        Some(extent)
    }

    /// Drops what lies past the end of a file of `size` bytes; how many bytes that was.
    pub fn cut_off_at(&mut self, size: u64) -> u64 {
        let mut lost = 0_u64;
        self.0.retain(|_, extent| {
            let length = extent.length.min(size.saturating_sub(extent.offset));
            lost = lost.saturating_add(extent.length - length);
            extent.length = length;
            length > 0
        });
        lost
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address after the last.
    pub fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, extent)| extent.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of each address in turn.
    fn offsets(extents: &Extents, addresses: std::ops::Range<u64>) -> Vec<Option<u64>> {
        let offset = |at| extents.find(at).map(|extent| extent.offset + (at - extent.start));
        addresses.map(offset).collect()
    }

    #[test]
    fn a_later_stretch_takes_the_place_of_an_earlier() {
        // Every way in which two stretches can lie among ten addresses, against an array.
        for (start, end) in (0..10).flat_map(|start| (start..=10).map(move |end| (start, end))) {
            let mut extents = Extents::default();
            let mut expected = vec![None; 12];
            for (from, to, offset) in [(1, 4, 100), (4, 6, 200), (8, 9, 300), (start, end, 400)] {
                extents.insert(from, to - from, offset).unwrap();
                for at in from..to {
                    expected[usize::try_from(at).unwrap()] = Some(offset + at - from);
                }
            }
            assert_eq!(offsets(&extents, 0..12), expected, "{start}..{end}");
        }
    }

    #[test]
    fn what_goes_on_in_both_is_one_stretch() {
        let mut extents = Extents::default();
        extents.insert(0, 4, 100).unwrap();
        extents.insert(4, 4, 104).unwrap();
        extents.insert(8, 4, 200).unwrap();
        assert_eq!(extents.find(5), Some(Extent { start: 0, length: 8, offset: 100 }));
        assert_eq!(extents.next_after(5), Some(Extent { start: 8, length: 4, offset: 200 }));
        assert_eq!(extents.find_within(6, 4), Some(Extent { start: 4, length: 4, offset: 104 }));
    }

    #[test]
    fn nothing_lies_past_the_end_of_the_file() {
        let mut extents = Extents::default();
        extents.insert(0, 10, 0).unwrap();
        extents.insert(20, 10, 10).unwrap();
        assert_eq!(extents.cut_off_at(15), 5);
        assert_eq!(extents.end(), 25);
        assert_eq!(extents.cut_off_at(10), 5);
        assert!(extents.find(20).is_none());
    }

    #[test]
    fn the_last_addresses_do_not_overflow() {
        let mut extents = Extents::default();
        extents.insert(u64::MAX - 1, u64::MAX, u64::MAX - 8).unwrap();
        extents.insert(8, u64::MAX, 16).unwrap();
        assert!(extents.find(u64::MAX - 1).is_some());
        assert!(extents.find_within(u64::MAX - 1, 4096).is_some());
        assert!(extents.next_after(u64::MAX).is_none());
    }
}
