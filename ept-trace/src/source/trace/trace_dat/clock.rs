//! The times of the pages, and what trace-cmd makes of them.

use std::io::{self, Cursor};

use super::contents::MOST_CPUS;
use crate::source::trace::tracing_data::Input;

/// How times are made of those of the pages.
#[derive(Debug, Default)]
pub struct Clock {
    /// Added at last, in nanoseconds.
    offset_ns: i64,
    tsc: Option<Tsc>,
    /// By the CPU's number.
    shifts: Vec<Shifts>,
    /// Between two of a CPU's shifts there are others.
    interpolates: bool,
}

/// Nanoseconds of ticks, multiplied and shifted.
#[derive(Clone, Copy, Debug)]
struct Tsc {
    multiplier: u32,
    shift: u32,
}

/// How a CPU of a guest differs from the host, by time.
type Shifts = Vec<Shift>;

#[derive(Clone, Copy, Debug, Default)]
struct Shift {
    time: u64,
    offset: i64,
    scaling: u64,
    /// How many bits of `scaling` are its fraction.
    fraction: u32,
}

/// trace-cmd's `TRACECMD_TSYNC_FLAG_INTERPOLATE`.
const INTERPOLATE: u32 = 1;
/// One a second makes a day and more.
const MOST_SHIFTS: u32 = 1 << 17;

impl Clock {
    /// The times are nanoseconds in any case.
    pub fn counts_ns(&self) -> bool {
        self.tsc.is_some()
    }

    /// `DATE` and `OFFSET`: a number in a text, as `strtoll` reads it.
    pub fn add_offset(&mut self, text: &[u8], unit_ns: i64) -> io::Result<()> {
        let number = number(text).and_then(|number| number.checked_mul(unit_ns));
        let offset = number.and_then(|number| self.offset_ns.checked_add(number));
        self.offset_ns = offset.ok_or_else(|| invalid("no time"))?;
        Ok(())
    }

    /// `TSC2NSEC`.
    pub fn set_tsc(&mut self, data: &[u8]) -> io::Result<()> {
        let mut input = Input::new(Cursor::new(data))?;
        let tsc = Tsc { multiplier: input.u32()?, shift: input.u32()? };
        if tsc.shift > 63 {
            return Err(invalid("no shift"));
        }
        // Times are left as they are then.
        self.tsc = (tsc.multiplier != 0).then_some(tsc);
        Ok(())
    }

    /// `TIME_SHIFT`, which the file of a guest has.
    pub fn set_shifts(&mut self, data: &[u8]) -> io::Result<()> {
        let mut input = Input::new(Cursor::new(data))?;
        let _peer = input.u64()?;
        self.interpolates = input.u32()? & INTERPOLATE != 0;
        let cpus = input.count(MOST_CPUS)?;
        self.shifts.clear();
        for _ in 0..cpus {
            let count = input.count(MOST_SHIFTS)?;
            let mut shifts = Vec::new();
            for _ in 0..count {
                shifts.push(Shift { time: input.u64()?, ..Shift::default() });
            }
            for shift in &mut shifts {
                shift.offset = input.u64()?.cast_signed();
            }
            for shift in &mut shifts {
                shift.scaling = input.u64()?;
            }
            self.shifts.push(shifts);
        }
        // Older versions of trace-cmd end here.
        if input.offset() < data.len() as u64 {
            for shift in self.shifts.iter_mut().flatten() {
                shift.fraction = u32::try_from(input.u64()?).unwrap_or(u32::MAX);
            }
        }
        if self.shifts.iter().flatten().any(|shift| shift.fraction > 63) {
            return Err(invalid("no fraction"));
        }
        for shifts in &mut self.shifts {
            shifts.sort_by_key(|shift| shift.time);
            shifts.dedup_by_key(|shift| shift.time);
        }
        Ok(())
    }

    /// The clock of a CPU. trace-cmd shifts only the times of the top instance, without a name.
    pub fn of_cpu(&self, instance: &str, cpu: u32) -> CpuClock {
        let shifts = usize::try_from(cpu).ok().and_then(|cpu| self.shifts.get(cpu));
        let shifts = shifts.filter(|_| instance.is_empty());
        CpuClock {
            offset_ns: self.offset_ns,
            tsc: self.tsc,
            shifts: shifts.cloned().unwrap_or_default(),
            interpolates: self.interpolates,
        }
    }
}

/// How the times of a CPU are made of those of its pages.
#[derive(Debug)]
pub struct CpuClock {
    offset_ns: i64,
    tsc: Option<Tsc>,
    shifts: Shifts,
    interpolates: bool,
}

impl CpuClock {
    /// The time that a page's time is, as `trace-cmd report` has it; what does not fit is the
    /// nearest that does.
    #[inline]
    pub fn time_ns(&self, raw: u64) -> u64 {
        let shifted = if self.shifts.is_empty() { raw } else { self.shift(raw) };
        let ns = match self.tsc {
            Some(Tsc { multiplier, shift }) => {
                let ns = (u128::from(shifted) * u128::from(multiplier)) >> shift;
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
            None => shifted,
        };
        ns.saturating_add_signed(self.offset_ns)
    }

    fn shift(&self, raw: u64) -> u64 {
        // The last that is not later, but never the very last: a second is needed.
        let after = self.shifts.partition_point(|shift| shift.time <= raw);
        let first = after.saturating_sub(1).min(self.shifts.len().saturating_sub(2));
        let from = self.shifts[first];
        let Some(to) = self.shifts.get(first + 1) else {
            return raw.saturating_add_signed(from.offset);
        };
        let mut offset = i128::from(from.offset);
        if self.interpolates {
            let passed = i128::from(raw) - i128::from(from.time);
            let span = i128::from(to.time) - i128::from(from.time);
            let change = i128::from(to.offset) - i128::from(from.offset);
            offset += (passed * change + span / 2) / span;
        }
        let scaled = (u128::from(raw) * u128::from(from.scaling)) >> from.fraction;
        let shifted = i128::try_from(scaled).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}

/// A number in decimal, or after `0x`.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim_end_matches('\0').trim_ascii();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number.ok().map(|number| sign * number)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
