//! What a line of a log is, before its event is looked at.

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A tracepoint fired.
    Event(Event<'a>),
    /// Events were lost here.
    Lost {
        /// How many, where that is told.
        events: Option<u64>,
        /// When, in nanoseconds; where the line does not tell it is when the next event was.
        time_ns: Option<u64>,
    },
    /// It says nothing of an event: a comment, a stack, what a tool says of itself.
    Nothing,
    /// It cannot be read.
    Bad(Bad),
}

/// A tracepoint that fired, its fields not yet read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// By the clock of the log, in nanoseconds.
    pub time_ns: u64,
    /// The thread.
    pub thread: u32,
    /// Its process; 0 where that is not told.
    pub process: u32,
    /// Its name, without its system. Empty if the line is of a tracer, and no tracepoint's.
    pub name: &'a [u8],
    /// What is told of it.
    pub payload: &'a [u8],
}

/// The begin of a line, up to its CPU in brackets and a space: whose it is. Many lines begin as the one
/// before, to the letter; of these it is not read again.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// As it is in the line.
    pub text: &'a [u8],
    /// The thread.
    pub thread: u32,
    /// Its process; 0 where that is not told.
    pub process: u32,
}

/// Longer lines are not read: none of a tracepoint comes near.
pub const MOST_LINE: usize = 64 << 10;

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("it is no event with its thread, its CPU and its time")]
    NoEvent,
    #[error("it is longer than {MOST_LINE} bytes")]
    TooLong,
    #[error("it does not end: the log was cut off here")]
    CutOff,
    #[error("{0}: its fields cannot be read")]
    Fields(&'static str),
    #[error(
        "{0}: its numbers may be decimal or hexadecimal, for versions of trace-cmd differ; analyze \
         trace.dat itself. This is said once"
    )]
    Radix(&'static str),
    #[error(
        "{0}: the KVM plugin of trace-cmd and perf prints the role of a page by a layout that is \
         out of date; analyze trace.dat or perf.data itself, or make the report with \
         `trace-cmd report -N`. This is said once"
    )]
    Plugin(&'static str),
}

impl Bad {
    /// Lines of this kind come in great number, and what to do is the same for all of them.
    pub fn is_said_once(self) -> bool {
        matches!(self, Self::Radix(_) | Self::Plugin(_))
    }
}
