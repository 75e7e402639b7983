//! Sums by name. Names are few, and a million observations have the same ones in the same order: a
//! name is first looked for behind the last one, by its place in memory, and only then by its letters.

use std::ptr;

/// Sums, in the order of their names.
#[derive(Debug, Default)]
pub(in crate::report) struct Tally<T> {
    sums: Vec<(&'static str, T)>,
    /// Which one was asked for last.
    last: usize,
}

impl<T: Default> Tally<T> {
    /// The sum of this name.
    pub(super) fn of(&mut self, name: &'static str) -> &mut T {
        let is_at = |index: &usize| self.sums.get(*index).is_some_and(|at| ptr::eq(at.0, name));
        let next = Some(self.last + 1).filter(is_at);
        let index = next.or_else(|| (0..self.sums.len()).find(is_at)).unwrap_or_else(|| {
            self.sums.binary_search_by_key(&name, |(known, _)| known).unwrap_or_else(|index| {
                self.sums.insert(index, (name, T::default()));
                index
            })
        });
        self.last = index;
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
