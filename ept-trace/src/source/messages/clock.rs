//! The times of a log's lines, made one.

/// What the lines of a log say of time, made nanoseconds on one scale.
///
/// Seconds since boot are taken as they are: they are the kernel's own clock, close to
/// `CLOCK_MONOTONIC`. Where a log has dates alone, its first line is 0. A line with both ties the
/// dates to the boot. A line without any has the time of the line before.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last_ns: u64,
    /// The date that is 0, in seconds and nanoseconds.
    zero: Option<(i64, i64)>,
    /// The year of dates that have none, counted from the first of them.
    year: i64,
    last_month: u8,
}

/// What an envelope says of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Since boot, in nanoseconds.
    pub boot_ns: Option<u64>,
    /// Since the line before, in nanoseconds.
    pub passed_ns: Option<u64>,
    /// The date.
    pub date: Option<Date>,
}

/// A date and a time, in whatever zone the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// `None` where a log leaves it out.
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: u8,
    /// From 1; of seconds since 1970 the day since then.
    pub day: u32,
    /// Of the day.
    pub seconds: u32,
    /// Of the second.
    pub nanos: u32,
}

const SECOND: i64 = 1_000_000_000;
/// A leap year, so that it has every date.
const FIRST_YEAR: i64 = 2000;

impl Clock {
    /// The time of the next line, in nanoseconds.
    pub(super) fn at(&mut self, stamp: Stamp) -> u64 {
        let date = stamp.date.map(|date| self.seconds(date));
        self.last_ns = match (stamp.boot_ns, date, stamp.passed_ns) {
            (Some(boot_ns), date, _) => {
                self.zero = date.map(|date| before(date, boot_ns)).or(self.zero);
                boot_ns
            }
            (None, Some(date), _) => {
                let zero = *self.zero.get_or_insert(before(date, self.last_ns));
                let seconds = date.0.saturating_sub(zero.0);
                let passed = seconds.saturating_mul(SECOND).saturating_add(date.1 - zero.1);
                // A clock that was set back does not lead before the log's begin.
                u64::try_from(passed).unwrap_or(0)
            }
            (None, None, Some(passed_ns)) => self.last_ns.saturating_add(passed_ns),
            (None, None, None) => self.last_ns,
        };
        self.last_ns
    }

    fn seconds(&mut self, date: Date) -> (i64, i64) {
        let year = date.year.map_or_else(
            || {
                // From December to January.
                self.year += i64::from(date.month + 6 < self.last_month);
                self.last_month = date.month;
                FIRST_YEAR + self.year
            },
            i64::from,
        );
        let days = days(year, i64::from(date.month), date.day);
        (days * 86_400 + i64::from(date.seconds), i64::from(date.nanos))
    }
}

/// The date so long before another.
fn before((seconds, nanos): (i64, i64), ns: u64) -> (i64, i64) {
    let ns = i64::try_from(ns).unwrap_or(i64::MAX);
    (seconds - ns / SECOND, nanos - ns % SECOND)
}

/// Days since the begin of year 0 in the Gregorian calendar; months begin with March, so that a leap
/// day is a year's last.
fn days(year: i64, month: i64, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + i64::from(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: Option<u16>, month: u8, day: u32, seconds: u32) -> Stamp {
        let date = Date { year, month, day, seconds, nanos: 500 };
        Stamp { date: Some(date), ..Stamp::default() }
    }

    #[test]
    fn dates_count_from_the_first() {
        const DAY: u64 = 86_400_000_000_000;
        for (year, days) in [(2024, 2), (2026, 1), (2100, 1), (2000, 2)] {
            let mut clock = Clock::default();
            assert_eq!(clock.at(date(Some(year), 2, 28, 7)), 0);
            assert_eq!(clock.at(date(Some(year), 3, 1, 7)), days * DAY, "{year}");
            assert_eq!(clock.at(date(Some(year + 1), 3, 1, 7)) / DAY, days + 365, "{year}");
        }
        let mut clock = Clock::default();
        assert_eq!(clock.at(date(None, 12, 31, 86_399)), 0);
        assert_eq!(clock.at(date(None, 1, 1, 0)), 1_000_000_000, "a new year");
        assert_eq!(clock.at(date(None, 1, 1, 1)), 2_000_000_000);
        assert_eq!(clock.at(Stamp::default()), 2_000_000_000, "none: that of the line before");
        assert_eq!(clock.at(date(None, 1, 1, 0)), 1_000_000_000, "set back");
    }

    #[test]
    fn a_line_with_both_ties_dates_to_the_boot() {
        let mut clock = Clock::default();
        let both = Stamp { boot_ns: Some(5 << 30), ..date(None, 4, 24, 100) };
        assert_eq!(clock.at(both), 5 << 30);
        assert_eq!(clock.at(date(None, 4, 24, 103)), (5 << 30) + 3_000_000_000);
        let passed = Stamp { passed_ns: Some(7), ..Stamp::default() };
        assert_eq!(clock.at(passed), (5 << 30) + 3_000_000_007);
    }

    #[test]
    fn no_time_overflows() {
        let mut clock = Clock::default();
        let far = Stamp { boot_ns: Some(u64::MAX), ..date(Some(9999), 12, 31, 86_399) };
        assert_eq!(clock.at(far), u64::MAX);
        clock.at(date(Some(0), 1, 1, 0));
        clock.at(Stamp { passed_ns: Some(u64::MAX), ..Stamp::default() });
        assert_eq!(clock.at(Stamp { passed_ns: Some(9), ..Stamp::default() }), u64::MAX);
    }
}
