//! Records in the order of their time. perf writes what it finds in the buffers of the CPUs, one
//! after the other, round after round.
//!
//! What is older than the newest of a round is found in the round after it at the latest, as every
//! round looks at every buffer: `process_finished_round` of tools/perf/util/session.c. So at the end
//! of a round all is told up to the newest of the round before.

use std::mem;

use super::gaps::Gaps;
use crate::source::Skipped;
use crate::source::trace::{Batch, Record, Tracepoint};

/// Two rounds of the buffers of a large machine are fewer. They take 200 MB, and sorting half more.
const MOST_KEPT: usize = 1 << 22;
/// So many are handed out at a time.
const MOST_AT_A_TIME: usize = 4096;

/// Puts records in order.
#[derive(Debug)]
pub struct Order {
    most_kept: usize,
    kept: Vec<Record>,
    /// So many of them, the first, are to be handed out in their order, and so many were.
    ready: usize,
    handed_out: usize,
    /// The last time of those, and of all that were before.
    told: u64,
    /// The newest of this round, and of the one before.
    newest: u64,
    newest_before: u64,
    gaps: Gaps,
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
            ready: 0,
            handed_out: 0,
            told: 0,
            newest: 0,
            newest_before: 0,
            gaps: Gaps::default(),
        }
    }

    /// Takes in a record.
    #[inline]
    pub fn push(&mut self, record: Record) {
        self.newest = self.newest.max(record.time_ns);
        self.kept.push(record);
    }

    /// Events are lost after the first time, and before the second. In between each record stands
    /// for itself: any may be missing between two of them.
    pub fn lose(&mut self, (after, until): (u64, u64), events: Option<u64>) {
        self.gaps.add((after, until));
        self.push(lost(until, events));
    }

    /// All times that were not told yet: after the first, and before the second.
    pub fn untold(&self) -> (u64, u64) {
        (self.told, self.told.max(self.newest).max(self.newest_before).saturating_add(1))
    }

    /// A round ends, and nothing is ready yet.
    pub fn end_round(&mut self, skipped: &mut Skipped) {
        self.sort();
        // What stays is of this round. So no record is sorted more than twice.
        self.tell(self.kept.partition_point(|it| it.time_ns <= self.newest_before), skipped);
        if self.newest > 0 {
            self.newest_before = mem::take(&mut self.newest);
        }
    }

    /// Nothing more comes, and nothing is ready yet.
    pub fn end(&mut self, skipped: &mut Skipped) {
        self.sort();
        self.tell(self.kept.len(), skipped);
    }

    /// If too many are kept, and nothing is ready yet, the older half does not wait for the rest of
    /// its round.
    #[inline]
    pub fn make_room(&mut self, skipped: &mut Skipped) {
        if self.kept.len() >= self.most_kept && self.ready == 0 {
            self.sort();
            self.tell(self.kept.len() / 2, skipped);
        }
    }

    fn sort(&mut self) {
        self.kept.sort_by_key(|record| record.time_ns);
    }

    /// Makes the first of those that are kept ready, so many.
    fn tell(&mut self, count: usize, skipped: &mut Skipped) {
        self.ready = count;
        let late = self.kept[..count].partition_point(|record| record.time_ns < self.told);
        if let Some(last) = self.kept[..late].last() {
            // They belong between those that were told.
            let (until, seconds) = (last.time_ns, last.time_ns / 1_000_000_000);
            let ns = until % 1_000_000_000;
            skipped.note(|| format!("up to {seconds}.{ns:09} s: {late} events that come too late"));
            self.gaps.add((0, until.saturating_add(1)));
            self.kept.insert(late, lost(until, None));
            self.ready += 1;
        }
        if let Some(last) = self.kept[..self.ready].last() {
            self.told = last.time_ns;
        }
        self.gaps.merge();
    }

    /// Whether something is ready to be handed out.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.ready > 0
    }

    /// Hands out some of what is ready; `false` if nothing is.
    pub fn hand_out(&mut self, batch: &mut Batch) -> bool {
        let ready = &self.kept[self.handed_out..self.ready];
        let some = &ready[..ready.len().min(MOST_AT_A_TIME)];
        if self.gaps.is_empty() {
            batch.records.extend_from_slice(some);
        } else {
            batch.records.extend(some.iter().flat_map(|record| self.marked(*record)));
        }
        let has_some = !some.is_empty();
        self.handed_out += some.len();
        if self.handed_out == self.ready {
            self.kept.drain(..self.ready);
            (self.ready, self.handed_out) = (0, 0);
            self.gaps.forget(self.told);
        }
        has_some
    }

    /// A record, and before it what tells that it is in a gap.
    fn marked(&self, record: Record) -> impl Iterator<Item = Record> + use<> {
        let is_lost = matches!(record.event, Tracepoint::Lost { .. });
        let is_in_gap = !is_lost && self.gaps.have(record.time_ns);
        is_in_gap.then(|| lost(record.time_ns, Some(0))).into_iter().chain([record])
    }
}

/// A record of events that are lost.
pub fn lost(time_ns: u64, events: Option<u64>) -> Record {
    Record { time_ns, tid: 0, tgid: 0, event: Tracepoint::Lost { events } }
}

#[cfg(test)]
mod tests;
