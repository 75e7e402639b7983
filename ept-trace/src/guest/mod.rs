//! Small guests that make KVM decide and walk: each sets its CPUID, runs a short program, and
//! halts.

mod cpuid;
mod halt;
mod long_mode;
mod memory;
mod plan;
mod random;
mod runner;
mod scenario;
mod touch;
mod vm;

pub use cpuid::{Cpuid, Highest};
pub use plan::{Guest, Program, mixed, ordinary, touching};
pub use random::RandomGuests;
pub use runner::Runner;
pub use scenario::{Host, Scenario, Settings};
pub use touch::MEMORY as TOUCHING_MEMORY;
pub use vm::{Ended, run};
