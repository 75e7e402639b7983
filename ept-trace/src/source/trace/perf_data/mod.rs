//! `perf.data`: what `perf record` writes to a file, or into a pipe (`-o -`), compressed (`-z`) or
//! not.
//!
//! A head (`head`), and records (`records`), those that are compressed among them. What of them
//! matters (`events`) are samples of tracepoints, laid out as the attributes ask for (`attrs`,
//! `layout`), each with the event as the kernel has it; and what tells that some are missing. They
//! are put in order (`order`), as perf writes what one CPU had after what another had.

mod attrs;
mod bytes;
mod compressed;
mod events;
mod gaps;
mod head;
mod kinds;
mod layout;
mod order;
mod pieces;
mod records;
mod window;

use std::fs::File;
use std::io::{self, Read};
use std::mem;

use self::events::Events;
use self::head::Head;
use self::records::{Next, Records};
use super::{Batch, TraceReader};
use crate::source::Skipped;

pub use head::{Kind, recognise};

/// A batch tells of so many events that do not matter, if none comes that does.
const MOST_OTHERS: u64 = 1 << 16;

/// Reads a perf.data; what it tells is in the order of time.
///
/// Where events were lost, or are by damage, there is a [`Lost`](super::Tracepoint::Lost). For a
/// while before it, those of one CPU are missing between those of others: each of these has a
/// `Lost` before it, of 0 events, as nothing is known of what was before.
pub struct PerfData {
    records: Records,
    events: Events,
    skipped: Skipped,
    end: Option<io::Result<()>>,
}

impl PerfData {
    /// Reads a file, of [`Kind::File`].
    ///
    /// # Errors
    ///
    /// It cannot be read, or has no formats of events: perf was killed, or it is cut off.
    pub fn open(file: File) -> io::Result<Self> {
        let Head { attrs, records, formats } = Head::read(&file)?;
        let mut events = Events::new(attrs);
        let mut skipped = Skipped::default();
        events.learn(&formats, &mut skipped)?;
        let records = Records::new(Box::new(records.reader(file)), records.offset);
        Ok(Self { records, events, skipped, end: None })
    }

    /// Reads what came through a pipe, of [`Kind::Pipe`].
    ///
    /// # Errors
    ///
    /// Its header cannot be read, or is another.
    pub fn stream(mut input: Box<dyn Read + Send>) -> io::Result<Self> {
        let offset = head::read_pipe_header(&mut input)?;
        let records = Records::new(input, offset);
        let (events, skipped) = (Events::default(), Skipped::default());
        Ok(Self { records, events, skipped, end: None })
    }

    /// The clock of all times, named as in tracefs (`perf record -k`; `perf` without it). `None` if
    /// it is none that tracefs has, and of a pipe of which nothing was read yet.
    pub fn clock(&self) -> Option<&'static str> {
        self.events.attrs.first()?.clock()
    }

    /// Takes in what comes next, until something can be told.
    fn read_some(&mut self, batch: &mut Batch) -> io::Result<()> {
        let Self { records, events, .. } = self;
        while !events.order.is_ready() && batch.others < MOST_OTHERS {
            match records.next()? {
                Next::Record { bytes, offset } => {
                    if !events.take(bytes, offset, batch)? {
                        events.damage(&records.distrust()?, &mut batch.skipped);
                    }
                }
                Next::Formats(bytes) => events.learn(&bytes, &mut batch.skipped)?,
                Next::Damage(damage) => events.damage(&damage, &mut batch.skipped),
                Next::End => {
                    self.end = Some(Ok(()));
                    break;
                }
            }
            events.order.make_room(&mut batch.skipped);
        }
        Ok(())
    }
}

impl TraceReader for PerfData {
    fn read(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.skipped.append(mem::take(&mut self.skipped));
        if self.end.is_none() {
            if let Err(err) = self.read_some(batch) {
                self.end = Some(Err(err));
            }
            if self.end.is_some() {
                self.events.end(&mut batch.skipped);
            }
        }
        let has_some = self.events.order.hand_out(batch);
        let has_some = has_some || batch.others > 0 || batch.skipped.count > 0;
        match &mut self.end {
            Some(end) if !has_some => mem::replace(end, Ok(())),
            _ => Ok(()),
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
