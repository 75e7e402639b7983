//! What KVM should have chosen, replayed from its own inputs and from the hardware.

mod decision;
mod hardware_setup;
mod known;
mod vcpus;

pub use decision::{Branch, Missing, Replay, ReplayInputs, replay};
pub use hardware_setup::{
    EPT_CONDITIONS, EptCondition, ept_huge_page_level, expected_levels, may_enable_ept,
};
pub use known::Known;
pub use vcpus::{Decided, Loaded, Vcpu, Vcpus};
