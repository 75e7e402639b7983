//! What `perf script` prints by default, or with the process as well (`-F +pid`).
//!
//! ```text
//!               kt   103 [000]     6.756877:                      kvm:kvm_entry: vcpu 0, rip 0x1000
//!               kt   103/103   [000]     6.756877114:             kvm:kvm_entry: vcpu 0, rip 0x1000
//!             perf   101 [000]     6.756880: PERF_RECORD_LOST lost 12
//! ```
//!
//! Where a line has one number, it is taken for the thread, as perf has it unless it is told otherwise.
//! What was lost is there with `--show-lost-events` alone.

use super::chatter;
use super::cursor::{Cursor, last_word, whole_decimal};
use super::line::{Bad, Event, Head, Line};
use super::scan;

/// What perf says of itself and of the file.
const CHATTER: [&[u8]; 4] = [b"#", b"PERF_RECORD_", b"Warning:", b"Check IO/CPU overload!"];

/// Reads a line. `last` is the head of the line before.
pub fn line<'a>(line: &'a [u8], last: &mut Option<Head<'a>>) -> Line<'a> {
    match with_brackets(line, last) {
        Some(event) => lost(&event).unwrap_or(Line::Event(event)),
        None if is_warning_of_loss(line) => Line::Lost { events: None, time_ns: None },
        // A callchain begins with a tab.
        None if line.starts_with(b"\t") || chatter::is(line, &CHATTER) => Line::Nothing,
        None => Line::Bad(Bad::NoEvent),
    }
}

fn with_brackets<'a>(line: &'a [u8], last: &mut Option<Head<'a>>) -> Option<Event<'a>> {
    if !last.is_some_and(|head| line.starts_with(head.text)) {
        *last = head(line, scan::find(line, [b'['])?);
    }
    last.and_then(|head| event(line, head)).or_else(|| at_any_bracket(line))
}

#[cold]
fn at_any_bracket(line: &[u8]) -> Option<Event<'_>> {
    memchr::memchr_iter(b'[', line).find_map(|at| head(line, at).and_then(|head| event(line, head)))
}

/// What is up to the CPU whose bracket is at `at`.
fn head(line: &[u8], at: usize) -> Option<Head<'_>> {
    let mut rest = Cursor(&line[at + 1..]);
    rest.cpu()?;
    let (_, task) = last_word(line[..at].strip_suffix(b" ")?);
    let (process, thread) = match memchr::memchr(b'/', task) {
        Some(slash) => (pid(&task[..slash])?, pid(&task[slash + 1..])?),
        None => (0, pid(task)?),
    };
    Some(Head { text: &line[..line.len() - rest.0.len()], thread, process })
}

/// What is behind the head.
fn event<'a>(line: &'a [u8], head: Head<'_>) -> Option<Event<'a>> {
    let Head { text, thread, process } = head;
    let mut rest = Cursor(&line[text.len()..]);
    rest.spaces();
    let time_ns = rest.time()?;
    rest.literal(b":")?;
    rest.spaces();
    // With `-F +period`, a number.
    let period = rest;
    if rest.decimal().is_some() && rest.0.first() == Some(&b' ') {
        rest.spaces();
    } else {
        rest = period;
    }
    let (name, payload) = named(rest)?;
    Some(Event { time_ns, thread, process, name, payload })
}

/// A thread or a process. -1 is none.
fn pid(word: &[u8]) -> Option<u32> {
    if word == b"-1" { Some(0) } else { whole_decimal(word) }
}

/// The name of an event without its system, and what is told of it.
fn named(rest: Cursor<'_>) -> Option<(&[u8], &[u8])> {
    let mut payload = rest;
    let word = payload.word();
    payload.spaces();
    if word.starts_with(b"PERF_RECORD_") {
        return Some((word, payload.0));
    }
    let event = word.strip_suffix(b":")?;
    let system = memchr::memchr(b':', event).map_or(0, |colon| colon + 1);
    Some((&event[system..], payload.0))
}

/// With `--show-lost-events`.
fn lost(event: &Event<'_>) -> Option<Line<'static>> {
    if !matches!(event.name, b"PERF_RECORD_LOST" | b"PERF_RECORD_LOST_SAMPLES") {
        return None;
    }
    let mut told = Cursor(event.payload);
    let events = told.literal(b"lost ").and_then(|()| told.decimal());
    Some(Line::Lost { events, time_ns: Some(event.time_ns) })
}

/// `Processed 884 events and lost 2 chunks!`, which perf says in the end, to its standard error.
fn is_warning_of_loss(line: &[u8]) -> bool {
    line.starts_with(b"Processed ") && memchr::memmem::find(line, b" lost ").is_some()
}
