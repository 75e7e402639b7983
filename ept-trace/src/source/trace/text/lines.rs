//! The lines of a block.

use memchr::memchr;

use super::Kind;
use super::blocks::Block;
use super::line::{Bad, Line, MOST_LINE};
use super::payload::{self, Bare};
use crate::source::trace::{Record, Tracepoint};

/// Few events have fewer bytes in their lines. Room for so many is there from the begin on, for to move
/// records costs as much as to find newlines.
const SHORT_LINE: usize = 64;

/// What a block of lines says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// In the order of the lines.
    pub records: Vec<Record>,
    /// Events that do not matter.
    pub others: u64,
    /// How many lines.
    pub lines: u64,
    /// Those that cannot be read, by their number in the block, from 0.
    pub bad: Vec<(u64, Bad)>,
    /// Records of losses that tell no time, since this one.
    untimed: usize,
    /// Time of the last event.
    now: u64,
}

/// The lines of a block, without their ends, or what is wrong with one.
pub fn lines(block: &Block) -> impl Iterator<Item = Result<&[u8], Bad>> {
    // A line that goes on in the next block is longer than any that is read.
    let without_end = if block.is_last { Bad::CutOff } else { Bad::TooLong };
    let mut rest = &block.bytes[..];
    let mut next = move || {
        let length = memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        let (line, behind) = rest.split_at(length);
        rest = behind;
        line
    };
    if block.begins_inside {
        next();
    }
    std::iter::from_fn(move || match next() {
        [] => None,
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => {
            Some(if line.len() > MOST_LINE { Err(Bad::TooLong) } else { Ok(line) })
        }
        _ => Some(Err(without_end)),
    })
}

/// Reads the lines of a block.
pub fn parse(block: &Block, kind: Kind, bare: Bare) -> Parsed {
    let records = Vec::with_capacity(block.bytes.len() / SHORT_LINE);
    let mut parsed = Parsed { records, ..Parsed::default() };
    let mut last = None;
    for line in lines(block) {
        let line = line.map_or_else(Line::Bad, |line| kind.line(line, &mut last));
        if let Err(bad) = parsed.take(line, bare) {
            parsed.bad.push((parsed.lines, bad));
        }
        parsed.lines += 1;
    }
    parsed.set_times();
    parsed
}

impl Parsed {
    #[inline]
    fn take(&mut self, line: Line<'_>, bare: Bare) -> Result<(), Bad> {
        match line {
            Line::Event(event) => {
                self.now = event.time_ns;
                self.set_times();
                match payload::decode(event.name, event.payload, bare)? {
                    Some(what) => {
                        self.records.push(Record {
                            time_ns: event.time_ns,
                            tid: event.thread,
                            tgid: event.process,
                            event: what,
                        });
                        self.untimed = self.records.len();
                    }
                    None => self.others += 1,
                }
            }
            Line::Lost { events, time_ns } => {
                let event = Tracepoint::Lost { events };
                self.records.push(Record {
                    time_ns: time_ns.unwrap_or_default(),
                    tid: 0,
                    tgid: 0,
                    event,
                });
                if let Some(time_ns) = time_ns {
                    self.now = time_ns;
                    self.set_times();
                }
            }
            Line::Nothing => {}
            Line::Bad(bad) => return Err(bad),
        }
        Ok(())
    }

    /// Losses that tell no time were before what has happened now.
    #[inline]
    fn set_times(&mut self) {
        for record in &mut self.records[self.untimed..] {
            record.time_ns = self.now;
        }
        self.untimed = self.records.len();
    }
}
