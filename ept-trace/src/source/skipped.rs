//! What could not be read of a file.

/// Places of a log that could not be read, and were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// So many of these can be told to be of no weight for what comes after them.
    pub harmless: u64,
    /// The first of them: where, such as `line 7` or `offset 0x1000`, and why.
    pub first: Vec<String>,
}

impl Skipped {
    /// So many are named; the others are counted.
    pub const MOST_NAMED: usize = 10;

    /// Passes something over. `what` is asked for only if it will be named.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < Self::MOST_NAMED {
            self.first.push(what());
        }
    }

    /// Takes in what another has passed over after this.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        self.harmless += other.harmless;
        let room = Self::MOST_NAMED - self.first.len().min(Self::MOST_NAMED);
        self.first.extend(other.first.into_iter().take(room));
    }
}
