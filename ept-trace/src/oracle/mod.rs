//! What KVM should have chosen, replayed from its own inputs and from the hardware.

mod decision;
mod frames;
mod hardware_setup;
mod history;
mod known;
mod spte;
mod translation;
mod vcpus;

pub use decision::{Branch, Missing, Replay, ReplayInputs, replay};
pub use frames::Frames;
pub use hardware_setup::{
    EPT_CONDITIONS, EptCondition, ept_huge_page_level, expected_levels, may_enable_ept,
};
pub use history::{Fault, Finding, History, Image, LevelShape, ROOT};
pub use known::{IN_A_LOG, Known};
pub use spte::{Absent, MmioEntries};
pub use translation::{End, Translated, translate};
pub use vcpus::{Decided, Loaded, Vcpu, Vcpus};
