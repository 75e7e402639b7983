//! Logs of KVM's tracepoints, whoever wrote them: each reader makes [`Record`]s of its format, and
//! what the records mean together is told in one place for all of them.

pub mod binary;
pub mod format;
mod log;
pub mod perf_data;
mod record;
pub mod text;
mod threads;
pub mod trace_dat;
pub mod tracing_data;

pub use log::{Log, Said};
pub use record::{Batch, PageRole, Record, TraceReader, Tracepoint};
