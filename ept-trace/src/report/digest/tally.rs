//! Sums by name. Names are few, and a million observations have the same ones: a name is first looked
//! for where it is in memory, and only then by its letters.

use std::ptr;

/// Sums, in the order of their names.
#[derive(Debug, Default)]
pub(in crate::report) struct Tally<T> {
    sums: Vec<(&'static str, T)>,
}

impl<T: Default> Tally<T> {
    /// The sum of this name.
    pub(super) fn of(&mut self, name: &'static str) -> &mut T {
        let same_place = self.sums.iter().position(|(known, _)| ptr::eq(*known, name));
        let index = same_place.unwrap_or_else(|| {
            self.sums.binary_search_by_key(&name, |(known, _)| known).unwrap_or_else(|index| {
                self.sums.insert(index, (name, T::default()));
                index
            })
        });
        &mut self.sums[index].1
    }

    /// The sum of this name, if there is one.
    pub(in crate::report) fn get(&self, name: &str) -> Option<&T> {
        let index = self.sums.binary_search_by_key(&name, |(known, _)| known).ok()?;
        Some(&self.sums[index].1)
    }

    /// All names with their sums.
    pub(in crate::report) fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &T)> {
        self.sums.iter().map(|(name, sum)| (*name, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_one_sum_wherever_it_is_in_memory() {
        let leaked: &'static str = String::leak("beta".to_owned());
        let mut tally = Tally::<u32>::default();
        for name in ["gamma", "beta", "alpha", leaked, "beta"] {
            *tally.of(name) += 1;
        }
        let sums: Vec<_> = tally.iter().map(|(name, sum)| (name, *sum)).collect();
        assert_eq!(sums, [("alpha", 1), ("beta", 3), ("gamma", 1)]);
        assert_eq!((tally.get("beta"), tally.get("delta")), (Some(&3), None));
    }
}
