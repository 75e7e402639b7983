//! KVM's tracepoints in the kernel's own layout, as ring buffers and perf's raw samples have them.
//!
//! The place of each field is taken from the event's [`Format`] once; an event is then decoded
//! without a name being looked at.

mod place;
mod plan;

use std::fmt;

use self::place::Place;
use self::plan::Plan;
use super::format::{BadFormat, Format};
use super::record::Tracepoint;

/// Decodes the events whose formats it was told.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// By the event's ID.
    events: Vec<Known>,
}

/// What is known of an event.
#[derive(Clone, Copy, Debug, Default)]
enum Known {
    /// Nothing, or nothing that would do.
    #[default]
    Nothing,
    /// It is none of [`Tracepoint`].
    Other(Lengths),
    Ours(Lengths, Layout),
}

/// How long an event can be, in bytes.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    least: usize,
    most: usize,
}

/// An event that is decoded.
#[derive(Clone, Copy, Debug)]
struct Layout {
    pid: Place,
    plan: Plan,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One of those that matter.
    Ours {
        /// `common_pid`: the thread.
        tid: u32,
        /// What it tells.
        event: Tracepoint,
    },
    /// Another.
    Other,
}

/// Why an event cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// It is too short for an ID.
    TooShort,
    /// No good format of an event with this ID was told.
    UnknownId(u16),
    /// Its length, in bytes, is not what its format has.
    Length {
        /// Its ID.
        id: u16,
        /// The length.
        length: usize,
    },
    /// A field has a value that it cannot have.
    Value {
        /// Its ID.
        id: u16,
    },
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "an event without an ID"),
            Self::UnknownId(id) => write!(f, "an event with ID {id}, which no good format has"),
            Self::Length { id, length } => {
                write!(f, "an event with ID {id} of {length} bytes, which its format has not")
            }
            Self::Value { id } => {
                write!(f, "an event with ID {id} and a value that its fields cannot have")
            }
        }
    }
}

/// `PID_MAX_LIMIT` of the kernel on 64 bits: no thread has this number.
const MOST_PIDS: u32 = 1 << 22;

impl Decoder {
    /// Takes in the format of an event.
    ///
    /// # Errors
    ///
    /// It is one of [`Tracepoint`], and lacks a field that all kernels have; or another event has
    /// its ID. It stays unknown then.
    pub fn learn(&mut self, format: &Format) -> Result<(), BadFormat> {
        let known = Known::of(format)?;
        let id = usize::from(format.id);
        if self.events.len() <= id {
            self.events.resize(id + 1, Known::Nothing);
        }
        if !matches!(self.events[id], Known::Nothing) {
            return Err(BadFormat::SameId { event: format.event(), id: format.id });
        }
        self.events[id] = known;
        Ok(())
    }

    /// Whether there is an event that it would decode.
    pub fn knows_kvm(&self) -> bool {
        self.events.iter().any(|known| matches!(known, Known::Ours(..)))
    }

    /// Decodes an event, whose bytes begin with `common_type`.
    ///
    /// # Errors
    ///
    /// It is not as its format has it, or has none.
    #[inline]
    pub fn decode(&self, event: &[u8]) -> Result<Decoded, Undecodable> {
        let &[low, high, ..] = event else { return Err(Undecodable::TooShort) };
        let id = u16::from_le_bytes([low, high]);
        match self.events.get(usize::from(id)) {
            None | Some(Known::Nothing) => Err(Undecodable::UnknownId(id)),
            Some(Known::Other(lengths) | Known::Ours(lengths, _)) if !lengths.has(event.len()) => {
                Err(Undecodable::Length { id, length: event.len() })
            }
            Some(Known::Other(_)) => Ok(Decoded::Other),
            Some(Known::Ours(_, layout)) => layout.read(event).ok_or(Undecodable::Value { id }),
        }
    }
}

impl Known {
    fn of(format: &Format) -> Result<Self, BadFormat> {
        let lengths = Lengths::of(format);
        let Some(plan) = Plan::of(format)? else { return Ok(Self::Other(lengths)) };
        if let Some(field) = format.overlapping() {
            let field = field.name.clone();
            return Err(BadFormat::Overlap { event: format.event(), field });
        }
        let pid = Place::of(format, "common_pid")?;
        Ok(Self::Ours(lengths, Layout { pid, plan }))
    }
}

impl Lengths {
    /// An event is as long as the kernel's structure, whose end is aligned to 8 bytes at most; perf
    /// rounds that up once more. Of some systems the format does not tell the whole structure.
    fn of(format: &Format) -> Self {
        let is_dynamic = format.fields.iter().any(|field| field.is_dynamic);
        match format.system.as_str() {
            "ftrace" | "synthetic" | "user_events" => Self { least: 0, most: usize::MAX },
            _ if is_dynamic => Self { least: format.end(), most: usize::MAX },
            _ => Self { least: format.end(), most: format.end() + 15 },
        }
    }

    fn has(self, length: usize) -> bool {
        (self.least..=self.most).contains(&length)
    }
}

impl Layout {
    fn read(&self, event: &[u8]) -> Option<Decoded> {
        let tid = self.pid.u32(event).filter(|&pid| pid < MOST_PIDS)?;
        let event = self.plan.read(event)?;
        Some(Decoded::Ours { tid, event })
    }
}

#[cfg(test)]
mod tests;
