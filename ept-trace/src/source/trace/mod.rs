//! Logs of KVM's tracepoints, whoever wrote them: each reader makes [`Record`]s of its format, and
//! what the records mean together is told in one place for all of them.

mod log;
mod record;
pub mod text;
mod threads;

pub use log::Log;
pub use record::{Batch, PageRole, Record, TraceReader, Tracepoint};
