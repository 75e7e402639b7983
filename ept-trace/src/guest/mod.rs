//! Small guests that make KVM decide: each sets its CPUID, runs a few instructions in real mode,
//! and halts.

mod plan;
mod vm;

pub use plan::{Cpuid, Guest, guests};
pub use vm::{Ended, run};
