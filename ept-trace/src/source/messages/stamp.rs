//! The stamps of envelopes: seconds and dates.

use super::clock::Date;
use super::scan::{decimal, split};

/// `33.899543`, and after it perhaps what has passed since: seconds since boot, in nanoseconds.
pub(super) fn boot(text: &[u8]) -> Option<u64> {
    let (ns, rest) = seconds(text)?;
    matches!(rest.trim_ascii_start(), [] | [b'<', ..]).then_some(ns)
}

/// `+0.000012` or `<    0.000012>`: since the line before, in nanoseconds.
pub(super) fn passed(text: &[u8]) -> Option<u64> {
    let text = match text {
        [b'<', inner @ .., b'>'] | [b'+', inner @ ..] => inner.trim_ascii(),
        _ => return None,
    };
    seconds(text).filter(|(_, rest)| rest.is_empty()).map(|(ns, _)| ns)
}

/// `Sun Nov 22 14:39:23 2026` or `Nov22 14:39`.
pub(super) fn bracketed_date(text: &[u8]) -> Option<Date> {
    if let Some((month, rest)) = month(text) {
        // dmesg -e: the first line of each minute.
        let (day, rest) = decimal(rest.trim_ascii_start())?;
        let (seconds, rest) = hours_and_minutes(rest.trim_ascii_start())?;
        return rest.is_empty().then(|| Date::new(None, month, day, (seconds, 0)))?;
    }
    let (date, rest) = syslog(weekday(text)?)?;
    let (year, rest) = decimal(rest)?;
    rest.is_empty().then_some(Date { year: u16::try_from(year).ok(), ..date })
}

/// A date with the space after it, and what follows.
pub(super) fn date(text: &[u8]) -> Option<(Date, &[u8])> {
    if let Some(rest) = weekday(text) {
        // journalctl -o short-full has a zone as well, in letters.
        let (date, rest) = iso(rest)?;
        let (_zone, rest) = split(rest, b' ')?;
        return Some((date, rest));
    }
    syslog(text).or_else(|| iso(text)).or_else(|| unix(text))
}

/// `Apr 24 14:07:29 `.
fn syslog(text: &[u8]) -> Option<(Date, &[u8])> {
    let (month, rest) = month(text)?;
    let (day, rest) = decimal(rest.trim_ascii_start())?;
    let (time, rest) = time(rest.strip_prefix(b" ")?)?;
    Some((Date::new(None, month, day, time)?, rest.strip_prefix(b" ")?))
}

/// `2026-04-24T14:07:29.123456+02:00 `: the zone is left out of account, as a log has but one.
fn iso(text: &[u8]) -> Option<(Date, &[u8])> {
    let (year, rest) = decimal(text)?;
    let (month, rest) = decimal(rest.strip_prefix(b"-")?)?;
    // What follows the day is a letter, which ends no number.
    let (day, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
    let (day, []) = decimal(day)? else { return None };
    let (b'T' | b' ', rest) = rest.split_first()? else { return None };
    let (clock, rest) = split(rest, b' ')?;
    let clock = clock.strip_suffix(b"Z").unwrap_or(clock);
    let (time, zone) = time(clock)?;
    if !matches!(zone, [] | [b'+' | b'-', ..]) {
        return None;
    }
    let date = Date::new(Some(u16::try_from(year).ok()?), u8::try_from(month).ok()?, day, time)?;
    Some((date, rest))
}

/// `1777032449.499070 `: seconds since 1970, as a date of that year.
fn unix(text: &[u8]) -> Option<(Date, &[u8])> {
    /// As many digits as the seconds have from 2001 to 2286.
    const DIGITS: usize = 10;
    const DAY: u64 = 86_400;
    let (whole, _) = split(text, b'.').filter(|(whole, _)| whole.len() == DIGITS)?;
    let (whole, []) = decimal(whole)? else { return None };
    let (ns, rest) = seconds(text)?;
    let nanos = u32::try_from(ns % 1_000_000_000).ok()?;
    let seconds = u32::try_from(whole % DAY).ok()?;
    let day = u32::try_from(whole / DAY).ok()? + 1;
    let date = Date { year: Some(1970), month: 1, day, seconds, nanos };
    Some((date, rest.strip_prefix(b" ")?))
}

impl Date {
    fn new(year: Option<u16>, month: u8, day: u64, (seconds, nanos): (u32, u32)) -> Option<Self> {
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
        let day = u32::try_from(day).ok()?;
        is_date.then_some(Self { year, month, day, seconds, nanos })
    }
}

/// `14:07:29`, and perhaps a fraction: seconds of the day, and nanoseconds of the second.
fn time(text: &[u8]) -> Option<((u32, u32), &[u8])> {
    let (minutes, rest) = hours_and_minutes(text)?;
    let (seconds, rest) = rest.strip_prefix(b":")?.split_at_checked(2)?;
    let (seconds @ 0..=60, []) = decimal(seconds)? else { return None };
    let (nanos, rest) = fraction(rest);
    Some(((minutes + u32::try_from(seconds).ok()?, nanos), rest))
}

/// `14:07`, in seconds.
fn hours_and_minutes(text: &[u8]) -> Option<(u32, &[u8])> {
    let (hours @ 0..=23, rest) = decimal(text)? else { return None };
    let (minutes @ 0..=59, rest) = decimal(rest.strip_prefix(b":")?)? else { return None };
    Some((u32::try_from(hours * 3600 + minutes * 60).ok()?, rest))
}

/// `33.899543`, in nanoseconds.
fn seconds(text: &[u8]) -> Option<(u64, &[u8])> {
    let (whole, rest) = decimal(text)?;
    if !rest.starts_with(b".") {
        return None;
    }
    let (nanos, rest) = fraction(rest);
    Some((whole.checked_mul(1_000_000_000)?.checked_add(u64::from(nanos))?, rest))
}

/// `.899543` or `,899543`, in nanoseconds; nothing is 0.
fn fraction(text: &[u8]) -> (u32, &[u8]) {
    let [b'.' | b',', digits @ ..] = text else { return (0, text) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    (padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')), rest)
}

/// `Apr`, and what follows.
fn month(text: &[u8]) -> Option<(u8, &[u8])> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (name, rest) = text.split_at_checked(3)?;
    let number = (1..).zip(MONTHS.chunks(3)).find(|(_, month)| *month == name)?.0;
    Some((number, rest))
}

/// What follows `Fri `.
fn weekday(text: &[u8]) -> Option<&[u8]> {
    const DAYS: &[u8] = b"MonTueWedThuFriSatSun";
    let (name, rest) = text.split_at_checked(3)?;
    DAYS.chunks(3).find(|day| *day == name)?;
    rest.strip_prefix(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_each_writes_them() {
        let expected = Date { year: Some(2026), month: 4, day: 24, seconds: 50_849, nanos: 0 };
        for text in [
            "2026-04-24T14:07:29+0200 ",
            "2026-04-24T14:07:29Z ",
            "2026-04-24 14:07:29 ",
            "Fri 2026-04-24 14:07:29 CEST ",
        ] {
            assert_eq!(date(text.as_bytes()), Some((expected, &b""[..])), "{text}");
        }
        assert_eq!(bracketed_date(b"Fri Apr 24 14:07:29 2026"), Some(expected));
        let no_year = Date { year: None, ..expected };
        assert_eq!(date(b"Apr 24 14:07:29 x"), Some((no_year, &b"x"[..])));
        let minute = Date { seconds: 50_820, ..no_year };
        assert_eq!(bracketed_date(b"Apr24 14:07"), Some(minute));
        let precise = Date { nanos: 123_456_000, ..expected };
        assert_eq!(date(b"2026-04-24T14:07:29,123456+00:00 ").unwrap().0, precise);
        let unix = date(b"1777039649.000001 x").unwrap();
        assert_eq!((unix.0.day, unix.0.seconds, unix.0.nanos), (20_568, 50_849, 1000));
    }

    #[test]
    fn seconds_are_read_as_each_writes_them() {
        assert_eq!(boot(b"33.899543"), Some(33_899_543_000));
        assert_eq!(boot(b"33.899543 <    0.000012>"), Some(33_899_543_000));
        assert_eq!(boot(b"33.1234567899"), Some(33_123_456_789));
        assert_eq!(passed(b"+0.5"), Some(500_000_000));
        assert_eq!(passed(b"<    0.000012>"), Some(12_000));
        for bad in ["33", "33.9x", "99999999999999999999.0", "18446744074.0", "", "x"] {
            assert_eq!(boot(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "Apr 32 14:07:29 x",
            "Apr 24 24:07:29 x",
            "2026-13-24T14:07:29 x",
            "2026-04-24T14:07:29",
            "2026-04-24T14:07 x",
            "Fri x",
            "Fr",
            "",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }
}
