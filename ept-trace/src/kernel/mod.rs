//! What this kernel offers: types, symbols, trace events, values; and from them, the facts and
//! the plan of attachment. Found by presence, never by version.

mod attach_plan;
mod btf;
mod host;
mod kallsyms;
mod kcore;
mod layout;
mod machine;
mod modules;
mod msr;
mod tracefs;

pub use attach_plan::{Attach, AttachPlan, PlannedHook, hook_name};
pub use btf::{Btf, BtfError};
pub use host::Host;
pub use kallsyms::{Symbol, Symbols};
pub use layout::Layout;
pub use modules::{Modules, Presence};
pub use tracefs::Tracefs;
