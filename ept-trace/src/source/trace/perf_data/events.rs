//! What the records mean: samples of tracepoints, and what tells that some are missing.

use std::{io, mem};

use super::attrs::{Attr, Attrs};
use super::bytes::{u32_at, u64_at};
use super::head::NO_FORMATS;
use super::layout::Sample;
use super::order::{Order, lost};
use super::records::Damage;
use super::window::{HEADER, Header};
use super::{invalid, kinds};
use crate::source::Skipped;
use crate::source::trace::binary::{Decoded, Decoder};
use crate::source::trace::{Batch, Record, Tracepoint, tracing_data};

/// `PERF_ATTR_SIZE_VER0`, of attributes that do not tell their size.
const FIRST_ATTR_SIZE: usize = 64;
/// The kernel's own limit.
const MOST_CPUS: usize = 8192;
/// The kernel has no numbers for a thread that ends.
const NO_THREAD: u32 = u32::MAX;

/// Makes events of records.
#[derive(Debug, Default)]
pub struct Events {
    pub attrs: Attrs,
    pub order: Order,
    decoder: Option<Decoder>,
    /// The time of the last sample of each CPU.
    last: Vec<u64>,
    /// Events that `PERF_RECORD_LOST` told of.
    lost: u64,
    /// Those that perf counted when it ended; of the same, and of those after which none came.
    lost_by_end: u64,
    /// That events were left out is told once.
    told_of_period: bool,
    /// Rounds end in it, and samples came after the end of the last.
    has_rounds: bool,
    is_in_round: bool,
}

impl Events {
    /// Those of these attributes; of a pipe they come later.
    pub fn new(attrs: Attrs) -> Self {
        Self { attrs, ..Self::default() }
    }

    /// Takes in what perf saved of tracefs.
    ///
    /// # Errors
    ///
    /// It is damaged, and no event can be read.
    pub fn learn(&mut self, formats: &[u8], skipped: &mut Skipped) -> io::Result<()> {
        let learned = tracing_data::Events::of_perf(formats);
        let learned = learned.map_err(|err| invalid(format!("formats of the events: {err}")))?;
        skipped.append(learned.skipped);
        self.decoder = Some(learned.decoder);
        Ok(())
    }

    /// Takes in a record, which is at this offset; `false` if it can be none.
    ///
    /// # Errors
    ///
    /// It lacks what is needed to read any that follows.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], offset: u64, batch: &mut Batch) -> io::Result<bool> {
        let skipped = &mut batch.skipped;
        match Header::parse(bytes).map_or(0, |header| header.kind) {
            kinds::SAMPLE => return self.take_sample(bytes, offset, batch),
            kinds::FINISHED_ROUND => {
                (self.has_rounds, self.is_in_round) = (true, false);
                self.order.end_round(skipped);
            }
            kinds::LOST => self.take_lost(bytes),
            kinds::LOST_SAMPLES => self.take_lost_samples(bytes),
            kinds::THROTTLE | kinds::UNTHROTTLE => {
                let (after, now) = self.order.untold();
                let until = u64_at(bytes, HEADER).unwrap_or(now);
                self.order.lose((after, until), None);
            }
            kinds::HEADER_ATTR => self.take_attr(bytes)?,
            _ => {}
        }
        Ok(true)
    }

    #[inline]
    fn take_sample(&mut self, bytes: &[u8], offset: u64, batch: &mut Batch) -> io::Result<bool> {
        let decoder = self.decoder.as_ref().ok_or_else(|| invalid(NO_FORMATS.to_owned()))?;
        self.is_in_round = true;
        let attr = self.attrs.of_sample(bytes);
        let Some((attr, sample)) = attr.and_then(|it| Some((it, it.layout.sample(bytes)?))) else {
            return Ok(false);
        };
        if let Some(cpu) = sample.cpu {
            note_time(&mut self.last, cpu as usize, sample.time);
        }
        if !attr.is_tracepoint || sample.raw.is_empty() {
            batch.others += 1;
            return Ok(true);
        }
        match decoder.decode(sample.raw) {
            Ok(Decoded::Other) => batch.others += 1,
            Ok(Decoded::Ours { tid, event }) => {
                if !attr.has_all {
                    if !mem::replace(&mut self.told_of_period, true) {
                        batch.skipped.note(|| format!("offset {offset:#x}: {NOT_ALL}"));
                    }
                    self.order.push(lost(sample.time, None));
                }
                self.order.push(record(&sample, tid, event));
            }
            Err(what) => {
                batch.skipped.note(|| format!("offset {offset:#x}: {what}"));
                self.order.push(lost(sample.time, Some(1)));
            }
        }
        Ok(true)
    }

    /// `PERF_RECORD_LOST`, which a CPU puts into its buffer when there is room again.
    fn take_lost(&mut self, bytes: &[u8]) {
        let events = u64_at(bytes, HEADER + 8);
        self.lost = self.lost.saturating_add(events.unwrap_or(0));
        let (untold, now) = self.order.untold();
        let (time, cpu) = self.attrs.trailer(bytes);
        let last = cpu.and_then(|cpu| self.last.get(cpu as usize)).copied();
        self.order.lose((last.unwrap_or(untold), time.unwrap_or(now)), events);
    }

    /// `PERF_RECORD_LOST_SAMPLES`: of the kernel, which has a time, or of perf, which has none.
    fn take_lost_samples(&mut self, bytes: &[u8]) {
        let events = u64_at(bytes, HEADER).unwrap_or(0);
        match self.attrs.trailer(bytes) {
            (Some(time @ 1..), _) => {
                let (untold, _) = self.order.untold();
                self.order.lose((untold, time), Some(events));
            }
            _ => self.lost_by_end = self.lost_by_end.saturating_add(events),
        }
    }

    /// `PERF_RECORD_HEADER_ATTR`: an attribute, which tells its size, and its IDs.
    fn take_attr(&mut self, bytes: &[u8]) -> io::Result<()> {
        let damaged = || invalid("a damaged attribute".to_owned());
        let rest = &bytes[HEADER.min(bytes.len())..];
        let size = match u32_at(rest, 4).ok_or_else(damaged)? as usize {
            0 => FIRST_ATTR_SIZE,
            size => size,
        };
        let (attr, ids) = rest.split_at_checked(size).ok_or_else(damaged)?;
        self.attrs.add(Attr::parse(attr).ok_or_else(damaged)?, ids).map_err(invalid)
    }

    /// Records are lost by damage.
    pub fn damage(&mut self, Damage { offset, what }: &Damage, skipped: &mut Skipped) {
        skipped.note(|| format!("offset {offset:#x}: {what}"));
        self.order.lose(self.order.untold(), None);
    }

    /// Nothing more comes. perf ends each round that has anything, the last one too.
    pub fn end(&mut self, skipped: &mut Skipped) {
        if self.has_rounds && self.is_in_round {
            skipped.note(|| CUT.to_owned());
            self.order.lose(self.order.untold(), None);
        }
        if self.lost_by_end > self.lost {
            let events = self.lost_by_end - self.lost;
            self.order.lose(self.order.untold(), Some(events));
        }
        self.order.end(skipped);
    }
}

const CUT: &str = "at the end: the last round of events is cut off";
const NOT_ALL: &str = "perf was told (-F, -c) to leave events out: record without";

fn record(sample: &Sample<'_>, tid: u32, event: Tracepoint) -> Record {
    let (process, tid) = match sample.thread {
        Some((NO_THREAD, thread)) if thread != NO_THREAD => (0, thread),
        Some((process, thread)) if thread != NO_THREAD => (process, thread),
        _ => (0, tid),
    };
    Record { time_ns: sample.time, tid, tgid: process, event }
}

fn note_time(last: &mut Vec<u64>, cpu: usize, time: u64) {
    if cpu >= last.len() && cpu < MOST_CPUS {
        last.resize(cpu + 1, 0);
    }
    if let Some(last) = last.get_mut(cpu) {
        *last = time;
    }
}
