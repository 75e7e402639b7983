//! The events that were asked for: `perf_event_attr`, one for each, and the IDs of its counters.

use std::collections::HashMap;

use super::bytes::{u32_at, u64_at, u64s};
use super::layout::Layout;

/// `PERF_TYPE_SOFTWARE` with `PERF_COUNT_SW_DUMMY`, which has no samples; `PERF_TYPE_TRACEPOINT`.
const DUMMY: (u32, u64) = (1, 9);
const TRACEPOINT: u32 = 2;
/// Bits of the flags.
const FREQ: u64 = 1 << 10;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCKID: u64 = 1 << 25;
/// Kernels have some thousands of tracepoints.
pub const MOST_ATTRS: usize = 1 << 14;
/// Some hundred events on thousands of CPUs have fewer counters.
const MOST_IDS: usize = 1 << 20;

/// What matters of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub layout: Layout,
    pub is_tracepoint: bool,
    /// Every event is there: it was not asked for one in so many.
    pub has_all: bool,
    is_dummy: bool,
    /// The `clockid`, where one was asked for.
    clock: Option<u32>,
}

impl Attr {
    /// Reads one; what newer kernels put at its end is passed over.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, config) = (u32_at(bytes, 0)?, u64_at(bytes, 8)?);
        let flags = u64_at(bytes, 40)?;
        let has_trailer = flags & SAMPLE_ID_ALL != 0;
        Some(Self {
            layout: Layout::new(u64_at(bytes, 24)?, u64_at(bytes, 32)?, has_trailer),
            is_tracepoint: kind == TRACEPOINT,
            has_all: flags & FREQ == 0 && u64_at(bytes, 16)? == 1,
            is_dummy: (kind, config) == DUMMY,
            clock: (flags & USE_CLOCKID != 0).then(|| u32_at(bytes, 92)).flatten(),
        })
    }

    /// The clock of all times, named as in tracefs.
    pub fn clock(&self) -> Option<&'static str> {
        // clock_gettime(2); without one, the kernel's own for perf.
        match self.clock {
            None => Some("perf"),
            Some(0) => Some("realtime"),
            Some(1) => Some("mono"),
            Some(4) => Some("mono_raw"),
            Some(7) => Some("boot"),
            Some(11) => Some("tai"),
            Some(_) => None,
        }
    }
}

/// All attributes.
#[derive(Debug, Default)]
pub struct Attrs {
    list: Vec<Attr>,
    by_id: HashMap<u64, usize>,
    /// With those that came twice.
    ids: usize,
    /// The first of those that have samples.
    of_samples: Option<usize>,
    /// Not all of those are as the first.
    differ: bool,
}

impl Attrs {
    /// So many more IDs are taken in.
    pub fn room_for_ids(&self) -> usize {
        MOST_IDS - self.ids
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// Its samples could not be told from those of others; or there are too many.
    pub fn add(&mut self, attr: Attr, ids: &[u8]) -> Result<(), String> {
        let number = self.list.len();
        if number == MOST_ATTRS || ids.len() / 8 > self.room_for_ids() {
            return Err("more events than any perf records".to_owned());
        }
        self.ids += ids.len() / 8;
        self.by_id.extend(u64s(ids).map(|id| (id, number)));
        self.list.push(attr);
        if attr.is_dummy {
            return Ok(());
        }
        let first = self.list[*self.of_samples.get_or_insert(number)];
        self.differ |= first != attr;
        let (place, other) = (attr.layout.place_of_id(), first.layout.place_of_id());
        if self.differ && (place.is_none() || place != other) {
            return Err("events whose samples cannot be told apart".to_owned());
        }
        Ok(())
    }

    /// Any of them; what must be the same in all is in each.
    pub fn first(&self) -> Option<&Attr> {
        self.list.first()
    }

    /// The attribute of a sample.
    #[inline]
    pub fn of_sample(&self, record: &[u8]) -> Option<&Attr> {
        let first = &self.list[self.of_samples?];
        if !self.differ {
            return Some(first);
        }
        let id = u64_at(record, first.layout.place_of_id()?)?;
        self.by_id.get(&id).map(|number| &self.list[*number])
    }

    /// Time and CPU of a record that is not a sample. Where the events are not alike, it ends with
    /// the ID of one.
    pub fn trailer(&self, record: &[u8]) -> (Option<u64>, Option<u32>) {
        let id = record.last_chunk().map(|id| u64::from_le_bytes(*id));
        let number = id.and_then(|id| self.by_id.get(&id)).copied().unwrap_or(0);
        self.list.get(number).map_or((None, None), |attr| attr.layout.trailer(record))
    }
}
