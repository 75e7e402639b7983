//! What this kernel offers: types, symbols, trace events, values; and from them, the facts and
//! the plan of attachment. Found by presence, never by version.

mod access;
mod attach_plan;
mod btf;
mod eptp_write;
mod hooks;
mod host;
mod kallsyms;
mod kcore;
mod layout;
mod machine;
mod modules;
mod msr;
mod tracefs;

pub use access::Access;
pub use attach_plan::{Attach, AttachPlan, PlannedHook, Scope, missing_half};
pub use btf::{Btf, BtfError};
pub use hooks::{PAIRS, hook_name};
pub use host::{Filter, Host};
pub use kallsyms::{Symbol, Symbols};
pub use layout::Layout;
pub use modules::{Modules, Presence};
pub use tracefs::Tracefs;
