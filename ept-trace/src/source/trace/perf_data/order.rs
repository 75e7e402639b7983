//! Records in the order of their time. perf writes what it finds in the buffers of the CPUs, one
//! after the other, round after round.
//!
//! What is older than the newest of a round is found in the round after it at the latest, as every
//! round looks at every buffer: `process_finished_round` of tools/perf/util/session.c. So the end of
//! a round tells all up to the newest of the round before.

use std::mem;

use crate::source::Skipped;
use crate::source::trace::{Batch, Record, Tracepoint};

/// Two rounds of the buffers of a large machine are fewer. They take some 100 MB.
const MOST_KEPT: usize = 1 << 21;
/// So many are handed out at a time.
const MOST_AT_A_TIME: usize = 4096;
/// A gap where there is none.
const NO_GAP: (u64, u64) = (u64::MAX, 0);

/// Puts records in order.
#[derive(Debug)]
pub struct Order {
    most_kept: usize,
    kept: Vec<Record>,
    /// So many of them are in order, and of rounds before.
    sorted: usize,
    /// The newest of this round, and of the one before.
    newest: u64,
    newest_before: u64,
    /// After the first time, and up to the second, events are lost.
    gap: (u64, u64),
    /// In order, and handed out up to here.
    ready: Vec<Record>,
    handed_out: usize,
    /// The last time in there.
    told: u64,
}

impl Default for Order {
    fn default() -> Self {
        Self::keeping(MOST_KEPT)
    }
}

impl Order {
    fn keeping(most_kept: usize) -> Self {
        Self {
            most_kept,
            kept: Vec::new(),
            sorted: 0,
            newest: 0,
            newest_before: 0,
            gap: NO_GAP,
            ready: Vec::new(),
            handed_out: 0,
            told: 0,
        }
    }

    /// Takes in a record. What is ready has to be handed out before.
    #[inline]
    pub fn push(&mut self, record: Record, skipped: &mut Skipped) {
        self.newest = self.newest.max(record.time_ns);
        self.kept.push(record);
        if self.kept.len() >= self.most_kept {
            self.sort();
            self.tell(self.kept.len() / 2, skipped);
        }
    }

    /// Events are lost after the first time, and up to the second. Until then each record stands
    /// for itself: any other may be missing between two of them.
    pub fn lose(&mut self, (after, until): (u64, u64), events: Option<u64>, skipped: &mut Skipped) {
        self.gap = (self.gap.0.min(after), self.gap.1.max(until));
        self.push(lost(until, events), skipped);
    }

    /// All that is not yet told, up to here.
    pub fn untold(&self) -> (u64, u64) {
        (self.told, self.told.max(self.newest).max(self.newest_before))
    }

    /// A round ends.
    pub fn end_round(&mut self, skipped: &mut Skipped) {
        // Two rounds may be taken for one. So there is no more work than there are records, even
        // where rounds are small and much is kept.
        if self.kept.len() - self.sorted < self.sorted / 4 {
            return;
        }
        self.sort();
        self.tell(self.kept.partition_point(|it| it.time_ns <= self.newest_before), skipped);
        if self.newest > 0 {
            self.newest_before = mem::take(&mut self.newest);
        }
    }

    /// Nothing more comes.
    pub fn end(&mut self, skipped: &mut Skipped) {
        self.sort();
        self.tell(self.kept.len(), skipped);
    }

    fn sort(&mut self) {
        self.kept.sort_by_key(|record| record.time_ns);
        self.sorted = self.kept.len();
    }

    /// Makes the first of those that are kept ready, so many.
    fn tell(&mut self, mut count: usize, skipped: &mut Skipped) {
        let late = self.kept[..count].partition_point(|record| record.time_ns < self.told);
        if late > 0 {
            let (seconds, ns) = (self.told / 1_000_000_000, self.told % 1_000_000_000);
            skipped
                .note(|| format!("before {seconds}.{ns:09} s: {late} events that come too late"));
            self.kept.insert(late, lost(self.told, None));
            self.gap = (0, self.gap.1.max(self.told));
            count += 1;
        }
        self.sorted = self.kept.len() - count;
        let Some(last) = self.kept[..count].last() else { return };
        self.told = last.time_ns;
        let (after, until) = self.gap;
        if self.gap == NO_GAP {
            self.ready.extend(self.kept.drain(..count));
            return;
        }
        for record in self.kept.drain(..count) {
            let is_in_gap = after < record.time_ns && record.time_ns <= until;
            if is_in_gap && !matches!(record.event, Tracepoint::Lost { .. }) {
                self.ready.push(lost(record.time_ns, Some(0)));
            }
            self.ready.push(record);
        }
        if self.told > until {
            self.gap = NO_GAP;
        }
    }

    /// Hands out some of what is ready; `false` if nothing is.
    pub fn hand_out(&mut self, batch: &mut Batch) -> bool {
        let ready = &self.ready[self.handed_out..];
        let some = &ready[..ready.len().min(MOST_AT_A_TIME)];
        batch.records.extend_from_slice(some);
        self.handed_out += some.len();
        let has_some = !some.is_empty();
        if self.handed_out == self.ready.len() {
            self.ready.clear();
            self.handed_out = 0;
        }
        has_some
    }

    /// Whether something is to be handed out.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// A record of events that are lost.
pub fn lost(time_ns: u64, events: Option<u64>) -> Record {
    Record { time_ns, tid: 0, tgid: 0, event: Tracepoint::Lost { events } }
}

#[cfg(test)]
mod tests;
