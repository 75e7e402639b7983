//! Where observations come from when they are not live.

mod observations;
pub mod trace;

pub use observations::{BadLine, Observations};
