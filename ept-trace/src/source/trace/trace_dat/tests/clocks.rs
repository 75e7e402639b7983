//! Times, as `trace-cmd report` has them.

use super::super::clock::Clock;
use super::made::{Made, Page, entry};
use super::*;

fn tsc(multiplier: u32, shift: u32) -> Vec<u8> {
    [&multiplier.to_le_bytes()[..], &shift.to_le_bytes(), &[0; 8]].concat()
}

/// `TIME_SHIFT` of one CPU, with times, offsets, scalings and fractions.
fn shifts(interpolate: u32, shifts: &[[i64; 4]]) -> Vec<u8> {
    let count = u32::try_from(shifts.len()).unwrap();
    let mut data = vec![0; 8];
    for number in [interpolate, 1, count] {
        data.extend(number.to_le_bytes());
    }
    for field in 0..4 {
        data.extend(shifts.iter().flat_map(|shift| shift[field].to_le_bytes()));
    }
    data
}

#[test]
fn offsets_are_added() {
    let mut clock = Clock::default();
    clock.add_offset(b"0x10\0", 1000).unwrap();
    assert_eq!(clock.of_cpu("", 0).time_ns(5), 16_005);
    clock.add_offset(b"-16000\n\0", 1).unwrap();
    assert_eq!(clock.of_cpu("", 3).time_ns(5), 5);
    clock.add_offset(b" +7", 1).unwrap();
    assert_eq!(clock.of_cpu("", 0).time_ns(5), 12);
    for text in ["", "soon", "0x", "9223372036854775807"] {
        clock.add_offset(text.as_bytes(), 1000).unwrap_err();
    }
}

#[test]
fn ticks_become_nanoseconds() {
    let mut clock = Clock::default();
    assert!(!clock.counts_ns());
    clock.set_tsc(&tsc(0x2aaa_aaaa, 31)).unwrap();
    assert!(clock.counts_ns());
    assert_eq!(clock.of_cpu("", 0).time_ns(3_000_000_000_000), 999_999_999_068);
    // What does not fit is the last time that does.
    clock.set_tsc(&tsc(u32::MAX, 0)).unwrap();
    assert_eq!(clock.of_cpu("", 0).time_ns(u64::MAX), u64::MAX);
    clock.set_tsc(&tsc(0, 31)).unwrap();
    assert_eq!(clock.of_cpu("", 0).time_ns(7), 7);
    clock.set_tsc(&tsc(1, 64)).unwrap_err();
    clock.set_tsc(&[0; 7]).unwrap_err();
}

#[test]
fn a_guest_has_the_time_of_its_host() {
    let mut clock = Clock::default();
    let time = |clock: &Clock, raw| clock.of_cpu("", 0).time_ns(raw);
    clock.set_shifts(&shifts(0, &[[100, -30, 1, 0]])).unwrap();
    assert_eq!(time(&clock, 1000), 970);
    assert_eq!(clock.of_cpu("", 1).time_ns(1000), 1000);
    assert_eq!(clock.of_cpu("kvm", 0).time_ns(1000), 1000);

    let two = [[200, 70, 1, 0], [100, 50, 1, 0]];
    clock.set_shifts(&shifts(0, &two)).unwrap();
    assert_eq!([50, 150, 250].map(|raw| time(&clock, raw)), [100, 200, 300]);
    clock.set_shifts(&shifts(1, &two)).unwrap();
    // Rounded as C divides.
    assert_eq!([50, 100, 150, 250].map(|raw| time(&clock, raw)), [91, 150, 210, 330]);

    let three = [[100, 0, 1, 0], [200, 100, 1, 0], [300, 300, 1, 0]];
    clock.set_shifts(&shifts(1, &three)).unwrap();
    assert_eq!([50, 150, 200, 250, 350].map(|raw| time(&clock, raw)), [1, 200, 300, 450, 750]);

    clock.set_shifts(&shifts(0, &[[100, -5, 3, 1], [200, 0, 1, 0]])).unwrap();
    assert_eq!(time(&clock, 1000), 1495);
    clock.set_shifts(&shifts(0, &[])).unwrap();
    assert_eq!(time(&clock, 1000), 1000);
}

#[test]
fn shifts_that_lie_are_refused() {
    let mut clock = Clock::default();
    let good = shifts(0, &[[100, 0, 1, 0], [200, 0, 1, 0]]);
    clock.set_shifts(&good).unwrap();
    // Without the fractions it is whole, too.
    let whole = good.len() - 16;
    for length in (0..good.len()).filter(|&length| length != whole) {
        clock.set_shifts(&good[..length]).unwrap_err();
    }
    clock.set_shifts(&good[..whole]).unwrap();
    for at in [12, 16] {
        let mut lying = good.clone();
        lying[at..at + 4].fill(0xff);
        clock.set_shifts(&lying).unwrap_err();
    }
    clock.set_shifts(&shifts(0, &[[100, 0, 1, 64]])).unwrap_err();
}

#[test]
fn a_clock_that_counts_no_time_is_told() {
    let pages = || vec![vec![Page::at(3_000_000_000).event(0, &entry(1, 2)).bytes()]];
    let made = |clock: &str| Made::new(pages()).option(4, &format!("local global [{clock}] mono"));
    // The option is there, and so the clock comes once more, which this file does not have.
    let instance = |made: &Made| open(&made.v6()).unwrap().instances()[0].clone();
    for (clock, has_times) in [
        ("local", true),
        ("mono_raw", true),
        ("boot", true),
        ("counter", false),
        ("x86-tsc", false),
    ] {
        let instance = instance(&made(clock));
        assert_eq!((instance.clock.as_str(), instance.has_times), (clock, has_times));
    }
    let mut converted = made("x86-tsc");
    converted.options.push((14, tsc(1 << 30, 31)));
    assert!(instance(&converted).has_times);
    assert_eq!(read(&converted.v6()).records[0].time_ns, 1_500_000_000);
    let damaged = Made::new(pages()).option(14, "x");
    assert!(open(&damaged.v6()).unwrap_err().to_string().contains("option 14 is damaged"));
}
