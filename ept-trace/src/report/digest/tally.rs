//! Sums by name. Names are few, and a million observations have the same ones in the same order: of each
//! it is kept which one was asked for after it, and that one is looked at first.

use std::ptr;

/// Sums, in the order of their names.
#[derive(Debug, Default)]
pub(in crate::report) struct Tally<T> {
    sums: Vec<Sum<T>>,
    /// Which one was asked for last,
    last: usize,
    /// and which one is likely to be next.
    next: usize,
}

#[derive(Debug)]
struct Sum<T> {
    name: &'static str,
    value: T,
    /// Which one was asked for after it, when that was another one than before.
    then: usize,
}

impl<T: Default> Tally<T> {
    /// The sum of this name.
    pub(super) fn of(&mut self, name: &'static str) -> &mut T {
        // The same name is nearly always at the same place in memory.
        let is_next = self.sums.get(self.next).is_some_and(|at| ptr::eq(at.name, name));
        let index = if is_next { self.next } else { self.find(name) };
        let at = &mut self.sums[index];
        (self.last, self.next) = (index, at.then);
        &mut at.value
    }

    /// Where a name is, which may be a new one.
    #[cold]
    fn find(&mut self, name: &'static str) -> usize {
        let index = self.sums.binary_search_by_key(&name, |at| at.name).unwrap_or_else(|index| {
            self.sums.insert(index, Sum { name, value: T::default(), then: 0 });
            index
        });
        if let Some(last) = self.sums.get_mut(self.last) {
            last.then = index;
        }
        index
    }

    /// All names with their sums.
    pub(in crate::report) fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &T)> {
        self.sums.iter().map(|at| (at.name, &at.value))
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
    }
}
