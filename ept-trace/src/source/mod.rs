//! Where observations come from when they are not live.

pub mod messages;
mod observations;
mod skipped;
pub mod trace;

use std::io;

use crate::model::Event;

pub use observations::{BadLine, Observations};
pub use skipped::Skipped;

/// What a source tells at a time.
#[derive(Debug, Default)]
pub struct Told {
    /// In the order in which they were observed.
    pub events: Vec<Event>,
    /// What could not be read.
    pub skipped: Skipped,
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
