//! The events of all CPUs, put in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;

use super::source::Source;
use super::stream::{Item, Stream};
use crate::source::Skipped;
use crate::source::trace::record::{Batch, Record, TraceReader, Tracepoint};

/// Records in a batch.
const BATCH: usize = 4096;
/// In a gap it is told again and again that events may be missing: after so many records, and so
/// much time. That is less than anybody waits for an event that is late.
const MARK_RECORDS: usize = 64;
const MARK_NS: u64 = 100_000_000;

/// Reads the events of an instance, of all CPUs.
///
/// Events of equal times are in the order of their CPUs, as `trace-cmd report` has them.
pub struct Reader {
    source: Source,
    streams: Vec<Queue>,
    /// Those that have something, with its time, by their number.
    order: BinaryHeap<Reverse<(u64, usize)>>,
    /// What is told first.
    skipped: Skipped,
    gaps: Gaps,
    has_begun: bool,
}

/// A CPU, and what comes next of it.
struct Queue {
    stream: Stream,
    next: Option<Item>,
}

/// Where events may be missing.
#[derive(Default)]
struct Gaps {
    /// How many CPUs are in a gap.
    open: usize,
    /// The latest time so far, in nanoseconds.
    now_ns: u64,
    /// When it was told last that events may be missing, and how many records ago.
    marked_ns: u64,
    since: usize,
}

impl Reader {
    pub(super) fn new(
        source: Source,
        streams: Vec<Stream>,
        skipped: Skipped,
        is_torn: bool,
    ) -> Self {
        let streams = streams.into_iter().map(|stream| Queue { stream, next: None }).collect();
        let gaps = Gaps { open: usize::from(is_torn), ..Gaps::default() };
        let order = BinaryHeap::new();
        Self { source, streams, order, skipped, gaps, has_begun: false }
    }

    fn begin(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.has_begun = true;
        batch.skipped.append(std::mem::take(&mut self.skipped));
        let mut first_ns = None;
        for queue in &mut self.streams {
            let time_ns = queue.stream.first_time_ns(&mut self.source)?;
            first_ns = first_ns.into_iter().chain(time_ns).min();
        }
        self.gaps.now_ns = first_ns.unwrap_or(0);
        if self.gaps.open > 0 {
            self.gaps.mark(None, batch);
        }
        for (number, queue) in self.streams.iter_mut().enumerate() {
            queue.next = queue.stream.next(&mut self.source, batch)?;
            let time_ns = queue.next.as_ref().map(Item::time_ns);
            self.order.extend(time_ns.map(|time_ns| Reverse((time_ns, number))));
        }
        Ok(())
    }

    fn merge(&mut self, batch: &mut Batch) -> io::Result<()> {
        while batch.records.len() < BATCH {
            let Some(mut first) = self.order.peek_mut() else {
                self.gaps.end(batch);
                break;
            };
            let Reverse((_, number)) = *first;
            let queue = &mut self.streams[number];
            if let Some(item) = &queue.next {
                self.gaps.tell(item, batch);
            }
            queue.next = queue.stream.next(&mut self.source, batch)?;
            match &queue.next {
                Some(next) => *first = Reverse((next.time_ns(), number)),
                None => drop(PeekMut::pop(first)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Reader {
    /// What is held of the file, in bytes.
    pub(super) fn memory(&self) -> usize {
        let streams = self.streams.iter().map(|queue| queue.stream.memory());
        streams.sum::<usize>() + self.source.stored.capacity()
    }
}

impl TraceReader for Reader {
    fn read(&mut self, batch: &mut Batch) -> io::Result<()> {
        let begun = if self.has_begun { Ok(()) } else { self.begin(batch) };
        let read = begun.and_then(|()| self.merge(batch));
        if read.is_err() {
            self.order.clear();
            self.gaps.open = 0;
        }
        read
    }
}

impl Gaps {
    #[inline]
    fn tell(&mut self, item: &Item, batch: &mut Batch) {
        self.now_ns = self.now_ns.max(item.time_ns());
        match item {
            Item::Record(record) => {
                if self.open > 0 {
                    self.since += 1;
                    let passed_ns = self.now_ns - self.marked_ns;
                    if self.since >= MARK_RECORDS || passed_ns >= MARK_NS {
                        self.mark(Some(0), batch);
                    }
                }
                batch.records.push(*record);
            }
            Item::GapBegins { events, .. } => {
                self.open += 1;
                self.mark(*events, batch);
            }
            Item::GapEnds { .. } => {
                self.open = self.open.saturating_sub(1);
                self.mark(Some(0), batch);
            }
        }
    }

    /// Tells that events may be missing here.
    fn mark(&mut self, events: Option<u64>, batch: &mut Batch) {
        self.marked_ns = self.now_ns;
        self.since = 0;
        let event = Tracepoint::Lost { events };
        batch.records.push(Record { time_ns: self.now_ns, tid: 0, tgid: 0, event });
    }

    /// All is read.
    fn end(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.open) > 0 {
            self.mark(Some(0), batch);
        }
    }
}
