//! Recordings: what `-o` writes and `analyze` reads. They hold observations and never verdicts, so
//! that a better oracle can judge an old file again.
//!
//! A recording is a header and then frames, each with a checksum: of a damaged file everything is
//! read that is not damaged itself, and the rest is told as a gap. `docs/recording.md` has the bytes.

#[cfg(feature = "live")]
mod files;
mod frames;
mod join;
mod layout;
mod lines;
mod read;
mod window;
mod write;

#[cfg(feature = "live")]
pub use files::{Recorder, Rotation};
pub use join::Joined;
pub use layout::{Header, Version, recognise};
pub use read::{Reader, read_all};
pub use write::{Parts, Writer};

#[cfg(test)]
mod tests;
