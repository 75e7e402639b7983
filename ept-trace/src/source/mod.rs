//! Where observations come from when they are not live.

mod input;
mod merge;
pub mod messages;
mod observations;
mod open;
mod skipped;
pub mod trace;

use std::io;

use crate::model::Event;

pub use merge::{Merge, Next};
pub use observations::Observations;
pub use open::{Opened, open};
pub use skipped::Skipped;

/// What a source tells at a time.
#[derive(Debug, Default)]
pub struct Told {
    /// In the order in which they were observed.
    pub events: Vec<Event>,
    /// What could not be read.
    pub skipped: Skipped,
}

impl Told {
    /// Whether nothing is told: the file has ended.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.skipped.count == 0
    }
}

/// A file, read from its begin to its end.
pub trait Source: Send {
    /// Puts what comes next into `told`, which is empty; nothing at all is the end. Memory stays
    /// bounded whatever the file says.
    ///
    /// # Errors
    ///
    /// What makes all that follows unreadable; what was told before remains good.
    fn read(&mut self, told: &mut Told) -> io::Result<()>;
}
