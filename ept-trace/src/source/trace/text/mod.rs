//! Logs of tracepoints as text: what ftrace, `trace-cmd report` and `perf script` print.
//!
//! A line goes through three hands. `ftrace`, `trace_cmd` or `perf_script` finds thread, time and
//! event in it, by what their tool prints around those; `payload` reads the fields, which all three
//! print alike, for the format is the kernel's. What neither can make sense of is named by the number
//! of its line, and counted. `reader` does that for blocks of lines, on several CPUs.

mod blocks;
mod chatter;
mod cursor;
mod ftrace;
mod line;
mod lines;
mod payload;
mod perf_script;
mod reader;
mod recognise;
mod scan;
mod task;
mod trace_cmd;

use std::fmt;
use std::io::Read;

use self::line::{Head, Line};
use super::TraceReader;

pub use recognise::recognise;

/// Whose text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `trace` or `trace_pipe` of tracefs.
    Ftrace,
    /// `trace-cmd report`.
    TraceCmd,
    /// `perf script`.
    PerfScript,
}

impl Kind {
    /// Reads a line. `last` is the head of the line before.
    #[inline(always)]
    fn line<'a>(self, line: &'a [u8], last: &mut Option<Head<'a>>) -> Line<'a> {
        match self {
            Self::Ftrace => ftrace::line(line, last),
            Self::TraceCmd => trace_cmd::line(line, last),
            Self::PerfScript => perf_script::line(line, last),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ftrace => "ftrace",
            Self::TraceCmd => "trace-cmd report",
            Self::PerfScript => "perf script",
        })
    }
}

/// Reads a log from its first byte on. Any bytes will do: what is no line of such a log is skipped.
///
/// Where the clock of the log does not count nanoseconds (`x86-tsc`, `counter`), what it has counted
/// is taken for them: the order of events is right, times between them are not. The latency format of
/// ftrace counts from the begin of the buffer.
///
/// A last line that does not end is skipped, for a number in it may have been cut.
pub fn open(kind: Kind, input: Box<dyn Read + Send>) -> Box<dyn TraceReader> {
    Box::new(reader::Reader::new(kind, input))
}

#[cfg(test)]
mod tests;
