//! A page of the kernel's ring buffer: its head, and the events in it.
//!
//! include/linux/ring_buffer.h has the types of events; kernel/trace/ring_buffer.c has the head.

use crate::source::trace::tracing_data::PageLayout;

/// In the length of the data: events were lost before this page.
const MISSED_EVENTS: u64 = 1 << 31;
/// And how many they are stands after the data.
const MISSED_STORED: u64 = 1 << 30;
/// The length itself.
const LENGTH: u64 = (1 << 27) - 1;

/// `ring_buffer_type`: up to 28 it is the length of the data, in units of 4 bytes.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// Bits of a time that are in an event itself.
const TIME_SHIFT: u32 = 27;
/// Bits of a time that are not in an absolute one.
const TIME_TOP: u64 = 0xf8 << 56;

/// What the head of a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of its first event, by the clock of the pages.
    pub time: u64,
    /// Where its events begin, and where they end.
    begin: usize,
    end: usize,
    /// Events were lost before it.
    pub missed: Option<Missed>,
}

/// Events that were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many, if that is told.
    pub events: Option<u64>,
}

impl Head {
    /// Reads the head of a page.
    ///
    /// # Errors
    ///
    /// No page has such a head.
    pub fn read(page: &[u8], layout: &PageLayout) -> Result<Self, String> {
        let cut = || format!("a page of {} bytes", page.len());
        let time = page.first_chunk().copied().map(u64::from_le_bytes).ok_or_else(cut)?;
        let length = word(page, layout.commit, layout.commit_size).ok_or_else(cut)?;
        // The flags of old kernels are a negative number.
        let top = length >> 32;
        let is_negative = top == u64::from(u32::MAX) && length & MISSED_EVENTS != 0;
        let unknown = length & 0xffff_ffff & !(MISSED_EVENTS | MISSED_STORED | LENGTH);
        let data = usize::try_from(length & LENGTH).unwrap_or(usize::MAX);
        let end = layout.data.saturating_add(data);
        if (top != 0 && !is_negative) || unknown != 0 || end > page.len() {
            return Err(format!("a page whose data have the length {length:#x}"));
        }
        let missed = (length & MISSED_EVENTS != 0).then(|| {
            let is_stored = length & MISSED_STORED != 0;
            let events = is_stored.then(|| word(page, end, layout.commit_size)).flatten();
            Missed { events }
        });
        Ok(Self { time, begin: layout.data, end, missed })
    }

    /// The time of a page, of which these are the first bytes.
    pub fn time(page: &[u8]) -> Option<u64> {
        page.first_chunk().copied().map(u64::from_le_bytes)
    }
}

/// A number of 4 or 8 bytes.
fn word(page: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = page.get(at..)?;
    match size {
        4 => Some(u64::from(u32::from_le_bytes(*bytes.first_chunk()?))),
        _ => Some(u64::from_le_bytes(*bytes.first_chunk()?)),
    }
}

/// Where in a page one is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The place of what comes next.
    pub at: usize,
    end: usize,
    /// Of the event that was read last, by the clock of the pages.
    pub time: u64,
}

impl Cursor {
    /// Before the first event.
    pub fn new(head: &Head) -> Self {
        Self { at: head.begin, end: head.end, time: head.time }
    }

    /// The data of the next event, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be one, and so it is not known where the next is.
    #[inline]
    pub fn next<'page>(&mut self, page: &'page [u8]) -> Result<Option<&'page [u8]>, String> {
        while self.at < self.end {
            let rest = page.get(self.at..self.end).unwrap_or_default();
            let (head, rest) = rest.split_first_chunk().ok_or("an event that is cut off")?;
            let head = u32::from_le_bytes(*head);
            let (kind, delta) = (head & 0x1f, u64::from(head >> 5));
            let first = || rest.first_chunk().copied().map(u32::from_le_bytes);
            let (before, data) = match kind {
                PADDING if delta == 0 => {
                    self.at = self.end;
                    break;
                }
                PADDING => {
                    // What was discarded; it still has a time.
                    let size = first().filter(|&size| size >= 4).ok_or_else(|| bad(head))?;
                    self.pass(delta)?;
                    self.at += 4 + size as usize;
                    if self.at > self.end {
                        return Err(bad(head));
                    }
                    continue;
                }
                TIME_EXTEND | TIME_STAMP => {
                    let time = u64::from(first().ok_or_else(|| bad(head))?) << TIME_SHIFT | delta;
                    if kind == TIME_EXTEND {
                        self.pass(time)?;
                    } else {
                        let time = time | self.time & TIME_TOP;
                        if time < self.time {
                            return Err("a time before that of the event before it".to_owned());
                        }
                        self.time = time;
                    }
                    self.at += 8;
                    continue;
                }
                0 => {
                    // The size has itself in it.
                    let size = first().and_then(|size| size.checked_sub(4));
                    let size = size.ok_or_else(|| bad(head))? as usize;
                    (8, rest.get(4..).and_then(|rest| rest.get(..size.next_multiple_of(4))))
                }
                units => (4, rest.get(..units as usize * 4)),
            };
            let data = data.ok_or_else(|| bad(head))?;
            self.pass(delta)?;
            self.at += before + data.len();
            return Ok(Some(data));
        }
        Ok(None)
    }

    fn pass(&mut self, delta: u64) -> Result<(), String> {
        self.time = self.time.checked_add(delta).ok_or("a time beyond all times")?;
        Ok(())
    }
}

fn bad(head: u32) -> String {
    format!("an event of type {} that does not fit in the page", head & 0x1f)
}
