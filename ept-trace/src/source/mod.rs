//! Where observations come from when they are not live.

mod observations;

pub use observations::{BadLine, Observations};
