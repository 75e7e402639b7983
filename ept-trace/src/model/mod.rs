//! What is observed, what is known, and what was found. No I/O, no clock.

mod event;
mod facts;
mod verdict;

pub use event::{
    ConfigureMmu, CpuidLeaves, Decision, Event, EventKind, HookStatus, Inputs, MmuState, Mode, Root,
};
pub use facts::{Behaviour, Fact, Hardware, KernelFacts, KvmState, Vendor};
pub use verdict::{Evidence, Judgement, Verdict};
