//! Where the fields of samples are: `perf_event_attr` tells it by bits, and the fields that it asks
//! for stand in the order of `PERF_RECORD_SAMPLE` in `include/uapi/linux/perf_event.h`.

use super::bytes::{u32_at, u64_at};
use super::window::HEADER;

/// Bits of `sample_type`: `PERF_SAMPLE_*`.
const IP: u64 = 1 << 0;
const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const ADDR: u64 = 1 << 3;
const READ: u64 = 1 << 4;
const CALLCHAIN: u64 = 1 << 5;
const ID: u64 = 1 << 6;
const CPU: u64 = 1 << 7;
const PERIOD: u64 = 1 << 8;
const STREAM_ID: u64 = 1 << 9;
const RAW: u64 = 1 << 10;
const IDENTIFIER: u64 = 1 << 16;

/// The fields of 8 bytes that a sample begins with.
const FIRST: [u64; 9] = [IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD];
/// Those that other records end with, where `sample_id_all` is asked for.
const TRAILER: [u64; 6] = [TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER];

/// Bits of `read_format`: `PERF_FORMAT_*`.
const TOTAL_TIME_ENABLED: u64 = 1 << 0;
const TOTAL_TIME_RUNNING: u64 = 1 << 1;
const FORMAT_ID: u64 = 1 << 2;
const FORMAT_GROUP: u64 = 1 << 3;
const FORMAT_LOST: u64 = 1 << 4;

/// Where the fields of a sample are, as offsets in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    sample_type: u64,
    read_format: u64,
    has_trailer: bool,
    id: Option<usize>,
    thread: Option<usize>,
    time: Option<usize>,
    cpu: Option<usize>,
    end_of_first: usize,
    /// Nothing follows the event itself.
    ends_with_raw: bool,
}

/// What a sample tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// In nanoseconds; 0 where it is not told.
    pub time: u64,
    /// Process and thread; -1 for those of a thread that ends.
    pub thread: Option<(u32, u32)>,
    pub cpu: Option<u32>,
    /// The event, as the kernel has it; empty where it is not told.
    pub raw: &'a [u8],
}

impl Layout {
    /// By these fields of the attribute; with a trailer, records that are no samples end with some
    /// of the fields too.
    pub fn new(sample_type: u64, read_format: u64, has_trailer: bool) -> Self {
        let up_to_raw = FIRST.iter().sum::<u64>() | READ | CALLCHAIN | RAW;
        let place = |field| place(&FIRST, sample_type, field).map(|at| HEADER + at);
        Self {
            sample_type,
            read_format: if sample_type & READ == 0 { 0 } else { read_format },
            has_trailer,
            id: place(IDENTIFIER).or_else(|| place(ID)),
            thread: place(TID),
            time: place(TIME),
            cpu: place(CPU),
            end_of_first: HEADER + length(&FIRST, sample_type),
            ends_with_raw: sample_type & !up_to_raw == 0,
        }
    }

    /// Where a sample has the ID of its event.
    pub fn place_of_id(&self) -> Option<usize> {
        self.id
    }

    /// Reads a sample; `None` if it is not laid out so.
    #[inline]
    pub fn sample<'a>(&self, record: &'a [u8]) -> Option<Sample<'a>> {
        if record.len() < self.end_of_first {
            return None;
        }
        let two = |at: usize| Some((u32_at(record, at)?, u32_at(record, at + 4)?));
        Some(Sample {
            time: self.time.and_then(|at| u64_at(record, at)).unwrap_or(0),
            thread: self.thread.and_then(two),
            cpu: self.cpu.and_then(|at| u32_at(record, at)),
            raw: self.raw(record)?,
        })
    }

    #[inline]
    fn raw<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let mut at = self.end_of_first;
        if self.sample_type & (READ | CALLCHAIN) != 0 {
            at = self.skip_counts_and_calls(record, at)?;
        }
        if self.sample_type & RAW == 0 {
            return Some(&[]);
        }
        let size = u32_at(record, at)? as usize;
        let (raw, rest) = record.get(at + 4..)?.split_at_checked(size)?;
        (rest.is_empty() || !self.ends_with_raw).then_some(raw)
    }

    /// Passes over `PERF_SAMPLE_READ` and `PERF_SAMPLE_CALLCHAIN`.
    fn skip_counts_and_calls(&self, record: &[u8], mut at: usize) -> Option<usize> {
        let words =
            |count: u64, at: usize| at.checked_add(usize::try_from(count).ok()?.checked_mul(8)?);
        if self.sample_type & READ != 0 {
            let has = |bits: u64| u64::from((self.read_format & bits).count_ones());
            let times = has(TOTAL_TIME_ENABLED | TOTAL_TIME_RUNNING);
            let each = 1 + has(FORMAT_ID | FORMAT_LOST);
            at = match has(FORMAT_GROUP) {
                0 => words(times + each, at)?,
                _ => words(u64_at(record, at)?.checked_mul(each)?.checked_add(1 + times)?, at)?,
            };
        }
        if self.sample_type & CALLCHAIN != 0 {
            at = words(u64_at(record, at)?.checked_add(1)?, at)?;
        }
        Some(at)
    }

    /// Time and CPU of a record that is not a sample.
    pub fn trailer(&self, record: &[u8]) -> (Option<u64>, Option<u32>) {
        let length = length(&TRAILER, self.sample_type);
        let begin = record.len().checked_sub(length).filter(|_| self.has_trailer);
        let place = |field| Some(begin? + place(&TRAILER, self.sample_type, field)?);
        let time = place(TIME).and_then(|at| u64_at(record, at));
        (time, place(CPU).and_then(|at| u32_at(record, at)))
    }
}

/// The length of those fields that are asked for.
fn length(fields: &[u64], sample_type: u64) -> usize {
    8 * fields.iter().filter(|field| sample_type & **field != 0).count()
}

/// Where a field is, if it is asked for.
fn place(fields: &[u64], sample_type: u64, field: u64) -> Option<usize> {
    let before = fields.split(|it| *it == field).next()?;
    (sample_type & field != 0).then(|| length(before, sample_type))
}
