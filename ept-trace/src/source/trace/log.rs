//! A log as a source of observations.

use std::io;

use super::threads::Threads;
use super::{Batch, TraceReader};
use crate::model::{Event, EventKind, Fact};
use crate::source::{Source, Told};

/// A log of tracepoints, in whatever format.
pub struct Log {
    reader: Box<dyn TraceReader>,
    batch: Batch,
    threads: Threads,
    /// Records were read.
    has_begun: bool,
    has_ended: bool,
    /// That pages cannot be read was said.
    roots_are_missed: bool,
}

/// What the user says of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// MAXPHYADDR of the guests, in bits.
    pub maxphyaddr: Option<Fact<u8>>,
    /// It has the events of all threads, and not only of those of a process, or of some CPUs.
    pub is_whole: bool,
}

impl Log {
    /// Reads by `reader`.
    pub fn new(reader: Box<dyn TraceReader>, said: &Said) -> Self {
        Self {
            reader,
            batch: Batch::default(),
            threads: Threads::new(said),
            has_begun: false,
            has_ended: false,
            roots_are_missed: false,
        }
    }

    /// The same, of a log by which it is not judged how entries have changed.
    #[must_use]
    pub fn without_history(mut self, why: &str) -> Self {
        self.threads.tear(|| why.to_owned());
        self
    }
}

impl Source for Log {
    fn read(&mut self, told: &mut Told) -> io::Result<()> {
        // A batch may tell nothing that is an observation, and is not the end.
        while told.events.is_empty() && !self.has_ended {
            self.batch.clear();
            let read = self.reader.read(&mut self.batch);
            self.has_begun |= !self.batch.records.is_empty();
            let skipped = &self.batch.skipped;
            let first = self.batch.records.first();
            let time_ns = first.map_or(self.threads.now(), |record| record.time_ns);
            if skipped.count > skipped.harmless {
                // What could not be read may have been anything.
                self.threads.lost();
                let count = skipped.count - skipped.harmless;
                let reason = format!("{count} places of the log could not be read");
                told.events.push(Event { time_ns, kind: EventKind::Gap { reason } });
            }
            if skipped.harmless > 0 && !self.roots_are_missed {
                self.roots_are_missed = true;
                let not_seen = vec!["roots: what the log says of pages cannot be read".to_owned()];
                let kind = EventKind::Hooks { hooks: Vec::new(), not_seen };
                told.events.push(Event { time_ns, kind });
            }
            for record in &self.batch.records {
                self.threads.take(record, &mut told.events);
            }
            told.skipped.append(std::mem::take(&mut self.batch.skipped));
            let is_end = self.batch.is_empty();
            read?;
            if is_end {
                self.has_ended = true;
                self.threads.finish(&mut told.events);
                let time_ns = self.threads.now();
                if self.has_begun {
                    told.events.push(Event { time_ns, kind: EventKind::End });
                }
            }
        }
        Ok(())
    }
}
