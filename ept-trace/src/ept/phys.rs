//! Where the entries of a table are read from.

use crate::model::Hpa;

/// Host-physical memory, or as much of it as there is.
pub trait PhysRead {
    /// The entry at `at`, which is a multiple of 8; `None` if this memory does not have it: an entry
    /// that is not in a dump is not an entry that is not present.
    fn read_u64(&self, at: Hpa) -> Option<u64>;
}
