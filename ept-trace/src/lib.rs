//! Watches KVM choose the TDP root level, and judges the choice.
//!
//! Data flows one way: [`live`] or a file makes [`model::Event`]s, [`analysis`] asks the
//! [`rules`] about each, the rules ask the [`oracle`] what KVM should have chosen, and a
//! [`sink`] or a [`report`] shows the outcome. `docs/architecture.md` has the picture.

pub mod analysis;
pub mod ept;
pub mod memory;
pub mod model;
pub mod oracle;
mod private_file;
pub mod recording;
pub mod report;
pub mod rules;
pub mod sink;
pub mod source;

pub mod cli;
#[cfg(feature = "live")]
pub mod guest;
#[cfg(feature = "live")]
pub mod kernel;
#[cfg(feature = "live")]
pub mod live;
