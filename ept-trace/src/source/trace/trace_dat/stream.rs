//! The events of a CPU, in their order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::clock::CpuClock;
use super::options::Losses;
use super::page::{Cursor, Head};
use super::pages::{Fetched, Pages, Place};
use super::source::Source;
use crate::source::trace::binary::{Decoded, Decoder};
use crate::source::trace::record::{Batch, Record, Tracepoint};
use crate::source::trace::tracing_data::PageLayout;

/// What comes next of a CPU.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    Record(Record),
    /// From here on events may be missing.
    GapBegins {
        /// Of the last event before, in nanoseconds; 0 if there is none.
        time_ns: u64,
        /// How many, if that is told.
        events: Option<u64>,
    },
    /// Up to here.
    GapEnds {
        /// Of the first event after, in nanoseconds.
        time_ns: u64,
    },
}

impl Item {
    /// In nanoseconds.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Record(record) => record.time_ns,
            Self::GapBegins { time_ns, .. } | Self::GapEnds { time_ns } => *time_ns,
        }
    }
}

/// The events of a CPU.
pub struct Stream {
    pages: Pages,
    layout: PageLayout,
    clock: CpuClock,
    decoder: Arc<Decoder>,
    page: Vec<u8>,
    place: Place,
    cursor: Cursor,
    /// Of the last event, by the clock of the pages; and of the next page.
    last: Option<u64>,
    limit: u64,
    is_in_gap: bool,
    /// It is not known where events were dropped: the gap has no end.
    is_leaky: bool,
    /// The first page was passed over, or should have been the second.
    is_first_damaged: bool,
    /// What comes before anything else.
    pending: VecDeque<Item>,
}

impl Stream {
    pub fn new(
        pages: Pages,
        layout: PageLayout,
        clock: CpuClock,
        decoder: Arc<Decoder>,
        losses: Losses,
    ) -> Self {
        let mut stream = Self {
            pages,
            layout,
            clock,
            decoder,
            page: Vec::new(),
            place: Place::default(),
            cursor: Cursor::default(),
            last: None,
            limit: u64::MAX,
            is_in_gap: false,
            is_leaky: losses.dropped > 0,
            is_first_damaged: false,
            pending: VecDeque::new(),
        };
        if losses.dropped > 0 {
            stream.begin_gap(Some(losses.dropped));
        } else if losses.overwritten > 0 {
            // How many is told by the pages.
            stream.begin_gap(None);
        }
        stream
    }

    /// What comes next; nothing at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    #[inline]
    pub fn next(&mut self, source: &mut Source, batch: &mut Batch) -> io::Result<Option<Item>> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(Some(item));
            }
            match self.cursor.next(&self.page) {
                Ok(Some(_)) if self.cursor.time > self.limit => {
                    self.leave_page("a time beyond that of the next page", batch);
                }
                Ok(Some(event)) => {
                    self.last = Some(self.cursor.time);
                    match self.decoder.decode(event) {
                        Ok(Decoded::Other) => batch.others += 1,
                        Ok(Decoded::Ours { tid, event }) => {
                            return Ok(Some(self.record(tid, event)));
                        }
                        Err(why) => {
                            batch.skipped.note(|| format!("{}, {why}", self.here()));
                            let lost = Tracepoint::Lost { events: Some(1) };
                            return Ok(Some(self.record(0, lost)));
                        }
                    }
                }
                Ok(None) => {
                    if !self.load(source, batch)? {
                        return Ok(None);
                    }
                }
                Err(why) => self.leave_page(&why, batch),
            }
        }
    }

    fn record(&self, tid: u32, event: Tracepoint) -> Item {
        let time_ns = self.clock.time_ns(self.cursor.time);
        Item::Record(Record { time_ns, tid, tgid: 0, event })
    }

    /// Where the cursor is.
    fn here(&self) -> String {
        format!("{}, up to byte {:#x} of the page", self.place, self.cursor.at)
    }

    /// Passes over what is left of a page.
    fn leave_page(&mut self, why: &str, batch: &mut Batch) {
        batch.skipped.note(|| format!("{}: {why}", self.here()));
        self.cursor = Cursor::default();
        self.begin_gap(None);
    }

    /// Goes on to the next page; `false` if there is none.
    fn load(&mut self, source: &mut Source, batch: &mut Batch) -> io::Result<bool> {
        let fetched = self.pages.fetch(source, &mut self.page)?;
        self.place = self.pages.place(source);
        let head = match fetched {
            Fetched::End => return Ok(false),
            Fetched::Damaged(what) => Err(what),
            Fetched::Page => Head::read(&self.page, &self.layout)
                .map_err(|what| format!("{}: {what}", self.place)),
        };
        let next = self.pages.next_time(source)?;
        match head.and_then(|head| self.check_order(head, next)) {
            Ok(head) => self.enter(&head, next, batch),
            Err(what) => {
                batch.skipped.note(|| what);
                self.begin_gap(None);
            }
        }
        Ok(true)
    }

    /// Whether the time of a page fits between those of the pages beside it. If they fit to one
    /// another, it is this page that is damaged; else the clock was set back.
    fn check_order(&mut self, head: Head, next: Option<u64>) -> Result<Head, String> {
        let time = head.time;
        let was_first_damaged = std::mem::take(&mut self.is_first_damaged);
        let fits = match (self.last, next) {
            (Some(last), Some(next)) => next < last || (last..=next).contains(&time),
            (Some(last), None) => last <= time,
            (None, Some(next)) => {
                // One of the two is damaged, and nobody knows which.
                self.is_first_damaged = time > next;
                time <= next
            }
            (None, None) => true,
        };
        if fits && !was_first_damaged {
            return Ok(head);
        }
        Err(format!("{}: the time of a page fits to no other page's", self.place))
    }

    fn enter(&mut self, head: &Head, next: Option<u64>, batch: &mut Batch) {
        if self.last.is_some_and(|last| head.time < last) {
            batch.skipped.note(|| format!("{}: from here on, times are earlier", self.place));
            self.begin_gap(None);
        }
        if let Some(missed) = head.missed {
            self.begin_gap(missed.events);
        }
        if self.is_in_gap && !self.is_leaky {
            self.is_in_gap = false;
            self.pending.push_back(Item::GapEnds { time_ns: self.clock.time_ns(head.time) });
        }
        self.cursor = Cursor::new(head);
        self.limit = next.filter(|&next| next >= head.time).unwrap_or(u64::MAX);
    }

    fn begin_gap(&mut self, events: Option<u64>) {
        let time_ns = self.last.map_or(0, |last| self.clock.time_ns(last));
        if !self.is_in_gap {
            self.is_in_gap = true;
            self.pending.push_back(Item::GapBegins { time_ns, events });
        } else if events.is_some() {
            let event = Tracepoint::Lost { events };
            self.pending.push_back(Item::Record(Record { time_ns, tid: 0, tgid: 0, event }));
        }
    }

    /// What is held of the file, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.page.capacity() + self.pages.memory()
    }

    /// The time of the first page, in nanoseconds.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn first_time_ns(&mut self, source: &mut Source) -> io::Result<Option<u64>> {
        Ok(self.pages.next_time(source)?.map(|time| self.clock.time_ns(time)))
    }
}
