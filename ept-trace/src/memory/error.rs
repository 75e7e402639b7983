//! What can be wrong with a dump.

use std::io;

/// What is wrong, in a file that the caller names.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot be read.
    #[error("offset {at:#x}: {source}")]
    Io {
        /// Offset in the file.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// It is not as its format has it.
    #[error("offset {at:#x}: {what}")]
    Bad {
        /// Offset in the file.
        at: u64,
        /// What is wrong there, and what to do.
        what: String,
    },
    /// It is known what it is, and that it cannot be walked; or it is used wrongly.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    pub(super) fn bad(at: u64, what: impl Into<String>) -> Self {
        Self::Bad { at, what: what.into() }
    }
}

/// A dump that cannot be used, or a part of it that cannot.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {trouble}")]
pub struct MemoryError {
    /// The file's name.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub trouble: Trouble,
}
