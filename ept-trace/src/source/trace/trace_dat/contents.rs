//! What a trace.dat has, and where.

use std::io;
use std::ops::Range;

use super::compression::Compression;
use super::options::Options;
use super::{Instance, MOST_AHEAD};
use crate::source::Skipped;
use crate::source::trace::tracing_data::{Events, PageLayout};

/// No machine has more CPUs.
pub const MOST_CPUS: u32 = 1 << 16;

/// Why a trace that is text is not read.
pub const TEXT: &str = "the trace in it is text (of a latency tracer): print it with `trace-cmd \
    report`, or read the file `trace` of tracefs";

/// All that both versions say before the pages.
#[derive(Debug)]
pub struct Contents {
    pub layout: PageLayout,
    pub compression: Compression,
    pub events: Events,
    pub options: Options,
    pub buffers: Vec<Buffer>,
    /// Parts of the file that have nothing but pages, and tables of where pages are.
    pub areas: Vec<Range<u64>>,
    /// Where the tables are that areas have.
    pub tables: Vec<Range<u64>>,
    /// What was passed over.
    pub skipped: Skipped,
    /// There are pages of which it is not known whose they are.
    pub is_torn: bool,
}

/// The ring buffers of an instance.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    pub name: String,
    /// If it is not that of the whole file.
    pub clock: Option<String>,
    /// In bytes.
    pub page_size: usize,
    pub is_compressed: bool,
    pub cpus: Vec<Cpu>,
}

/// Where the pages of a CPU are.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub number: u32,
    /// Where they begin, in the file.
    pub offset: u64,
    /// Their size there, in bytes.
    pub size: u64,
}

impl Buffer {
    /// The part of the file that a CPU has. The count of chunks is not in the size, and is there
    /// even for a CPU without any. No file has more bytes than `off_t` can count.
    fn part(&self, cpu: &Cpu) -> Option<Range<u64>> {
        let count = if self.is_compressed { 4 } else { 0 };
        let end = cpu.offset.checked_add(cpu.size)?.checked_add(count)?;
        i64::try_from(end).is_ok().then_some(cpu.offset..end)
    }
}

impl Contents {
    /// How an instance is told.
    pub fn instance(&self, buffer: &Buffer) -> Instance {
        let clock = buffer.clock.as_deref().or(self.options.clock_name.as_deref());
        // What trace-cmd takes it for, too.
        let clock = clock.unwrap_or("local");
        let is_ns = matches!(clock, "local" | "global" | "uptime" | "perf" | "boot" | "tai")
            || clock.starts_with("mono")
            || self.options.clock.counts_ns();
        Instance { name: buffer.name.clone(), clock: clock.to_owned(), has_times: is_ns }
    }

    /// Checks that the tables of CPUs fit to a file of so many bytes.
    ///
    /// # Errors
    ///
    /// No table can be so, and it is not known where any CPU's pages are.
    pub fn check(&mut self, length: u64) -> io::Result<()> {
        let bad = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut taken = self.tables.clone();
        for buffer in &self.buffers {
            let name = &buffer.name;
            if !self.layout.with_size(buffer.page_size).has_good_size() {
                let size = buffer.page_size;
                return bad(format!("the ring buffer {name:?} has pages of {size} bytes"));
            }
            let cpus = buffer.cpus.iter().filter(|cpu| cpu.size > 0).count();
            if cpus.saturating_mul(buffer.page_size) > MOST_AHEAD {
                let size = buffer.page_size;
                return bad(format!(
                    "the ring buffer {name:?} has pages of {size} bytes for {cpus} CPUs, and no \
                     more than {MOST_AHEAD} bytes are read ahead"
                ));
            }
            for cpu in &buffer.cpus {
                let Some(range) = buffer.part(cpu) else {
                    return bad(format!("CPU {} has no place in the file", cpu.number));
                };
                taken.push(range);
            }
        }
        taken.sort_by_key(|range| (range.start, range.end));
        let mut end = 0;
        // Of a CPU without pages there may be a count of chunks, or not even that.
        for range in taken.iter().filter(|range| range.end - range.start > 4) {
            if range.start < end {
                return bad(format!("offset {:#x}: two CPUs have their pages here", range.start));
            }
            end = range.end;
        }
        for gap in self.untaken(&taken, length) {
            let why = "bytes that may be pages, and no CPU's";
            self.skipped.note(|| format!("offset {:#x}: {} {why}", gap.start, gap.end - gap.start));
            self.is_torn = true;
        }
        Ok(())
    }

    /// Where a page could be in an area, and none is. Less than a page is left for alignment.
    fn untaken(&self, taken: &[Range<u64>], length: u64) -> Vec<Range<u64>> {
        let least = self.buffers.iter().map(|buffer| buffer.page_size as u64).min().unwrap_or(0);
        let mut untaken = Vec::new();
        for area in &self.areas {
            let mut at = area.start;
            let end = area.end.min(length);
            let within = taken.iter().filter(|range| area.contains(&range.start));
            for range in within.chain([&(end..end)]) {
                if range.start.saturating_sub(at) >= least.max(1) {
                    untaken.push(at..range.start);
                }
                at = at.max(range.end);
            }
        }
        untaken
    }
}
