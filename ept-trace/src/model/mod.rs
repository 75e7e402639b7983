//! What is observed, what is known, and what was found. No I/O, no clock.

mod address;
mod event;
mod facts;
mod history;
mod run;
mod verdict;
mod walk;

pub use address::{Gpa, Hpa};
pub use event::{
    ConfigureMmu, CpuidLeaves, Decision, Event, EventKind, FaultLoop, HookStatus, Inputs, Load,
    MmuState, Mode, Nested, PageFaultHandler, Root, ShadowMmu, ToldRole, VmcsDump,
};
pub use facts::{Behaviour, Fact, Hardware, KernelFacts, KvmState, RetPf, Vendor};
pub use history::{InLog, SpteChange};
pub use run::{Case, CaseOutcome, Run, ScenarioResult};
pub use verdict::{Evidence, Judgement, Verdict};
pub use walk::{Race, Requested, Walk};
