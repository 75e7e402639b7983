//! The options of a trace.dat: what trace-cmd notes beside the events.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use super::clock::Clock;
use super::contents::MOST_CPUS;
use crate::source::Skipped;
use crate::source::trace::tracing_data::Input;

/// Of all options, in bytes. They are small, but for the times of a guest's CPUs.
pub const MOST_OPTIONS: u64 = 16 << 20;
/// Many an instance is an option of its own.
const MOST_INSTANCES: usize = 1 << 12;

/// IDs of options, and of sections, of trace-cmd.dat.v7(5).
pub mod id {
    pub const DONE: u16 = 0;
    pub const DATE: u16 = 1;
    pub const CPUSTAT: u16 = 2;
    pub const BUFFER: u16 = 3;
    pub const TRACECLOCK: u16 = 4;
    pub const OFFSET: u16 = 7;
    pub const CPUCOUNT: u16 = 8;
    pub const TIME_SHIFT: u16 = 12;
    pub const TSC2NSEC: u16 = 14;
    pub const HEADER_INFO: u16 = 16;
    pub const FTRACE_EVENTS: u16 = 17;
    pub const EVENT_FORMATS: u16 = 18;
    pub const BUFFER_TEXT: u16 = 22;
    /// Those that say nothing that is needed: UNAME, HOOK, VERSION, PROCMAPS, TRACEID, GUEST,
    /// KALLSYMS, PRINTK, CMDLINES.
    pub const UNNEEDED: [u16; 9] = [5, 6, 9, 10, 11, 13, 19, 20, 21];
}

/// What the options say.
#[derive(Debug, Default)]
pub struct Options {
    /// How times are made of those of the pages.
    pub clock: Clock,
    /// The clock of the whole file.
    pub clock_name: Option<String>,
    /// How many CPUs have pages (version 6), where that is not what stands before the options.
    pub cpus: Option<u32>,
    /// The options `BUFFER`, which are for the versions to read.
    pub buffers: Vec<Vec<u8>>,
    /// There is a trace that is text.
    pub has_text: bool,
    /// Where sections are (version 7), by their ID.
    pub sections: BTreeMap<u16, u64>,
    /// What the kernel counted, by instance and CPU.
    losses: BTreeMap<(String, u32), Losses>,
    /// Whose `CPUSTAT` come now: those of the top instance are the first.
    instance: String,
    /// What was passed over.
    pub skipped: Skipped,
    /// Of all options so far, in bytes.
    size: u64,
}

/// What a ring buffer lost, by the kernel's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that were overwritten before they were read: the pages say where.
    pub overwritten: u64,
    /// Events that were dropped, nobody says where.
    pub dropped: u64,
}

impl Options {
    /// Takes in an option.
    ///
    /// # Errors
    ///
    /// It is damaged, and without it times or places would be wrong; or there are more options
    /// than any file has.
    pub fn take(&mut self, id: u16, data: Vec<u8>) -> io::Result<()> {
        self.size += data.len() as u64;
        if self.size > MOST_OPTIONS || self.buffers.len() > MOST_INSTANCES {
            let what = "more options than any file has";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let mut input = Input::new(Cursor::new(&data[..]))?;
        let taken = match id {
            // Microseconds, and nanoseconds.
            id::DATE => self.clock.add_offset(&data, 1000),
            id::OFFSET => self.clock.add_offset(&data, 1),
            id::TIME_SHIFT => self.clock.set_shifts(&data),
            id::TSC2NSEC => self.clock.set_tsc(&data),
            id::CPUCOUNT => input.count(MOST_CPUS).map(|cpus| self.cpus = Some(cpus)),
            _ => Ok(()),
        };
        taken.map_err(|why| {
            let why = format!("option {id} is damaged: {why}");
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        match id {
            id::CPUSTAT => self.count_losses(&String::from_utf8_lossy(&data)),
            id::BUFFER => self.buffers.push(data),
            id::BUFFER_TEXT => self.has_text = true,
            id::TRACECLOCK => self.choose_clock(&String::from_utf8_lossy(&data)),
            id::HEADER_INFO | id::FTRACE_EVENTS | id::EVENT_FORMATS => {
                self.sections.insert(id, input.u64()?);
            }
            id::DATE | id::OFFSET | id::TIME_SHIFT | id::TSC2NSEC | id::CPUCOUNT => {}
            _ if id::UNNEEDED.contains(&id) => {}
            _ => self.skipped.note(|| format!("option {id} of the file, which is not known")),
        }
        Ok(())
    }

    /// Takes the clock from what `trace_clock` of tracefs has: the one in brackets.
    pub fn choose_clock(&mut self, text: &str) {
        let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        if let Some((clock, _)) = chosen {
            self.clock_name = Some(clock.to_owned());
        }
    }

    /// What a CPU of an instance lost.
    pub fn losses(&self, instance: &str, cpu: u32) -> Losses {
        self.losses.get(&(instance.to_owned(), cpu)).copied().unwrap_or_default()
    }

    /// `per_cpu/cpuN/stats` of tracefs, or a line that says whose of them follow.
    fn count_losses(&mut self, text: &str) {
        let text = text.trim_end_matches('\0').trim_ascii();
        if let Some(instance) = text.strip_prefix("Buffer:") {
            instance.trim_ascii().clone_into(&mut self.instance);
            return;
        }
        let values: BTreeMap<&str, u64> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter_map(|(name, value)| Some((name.trim_ascii(), value.trim_ascii().parse().ok()?)))
            .collect();
        let value = |name| values.get(name).copied();
        // The kernel writes the last of these since 3.8.
        let (Some(cpu), Some(overrun), Some(commit_overrun)) =
            (value("CPU"), value("overrun"), value("commit overrun"))
        else {
            self.skipped.note(|| "what a CPU has lost (CPUSTAT), which is damaged".to_owned());
            return;
        };
        let dropped = value("dropped events").unwrap_or(0).saturating_add(commit_overrun);
        let losses = Losses { overwritten: overrun, dropped };
        if let Ok(cpu) = u32::try_from(cpu) {
            self.losses.insert((self.instance.clone(), cpu), losses);
        }
    }
}
