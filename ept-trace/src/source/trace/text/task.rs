//! How ftrace and trace-cmd begin a line: `comm-pid`, the CPU, flags, the time, the event.
//!
//! ```text
//!               kt-106     [000] d..1.    11.793833: kvm_entry: vcpu 0, rip 0x1000
//!      CPU 0/KVM-1234  (   1200) [003] d..1    11.793833: kvm_entry: vcpu 0
//!               kt-95    [000]     4.339939: (+304)   kvm_entry:             vcpu 0 rip 0x1000
//! mmu:        CPU 0/KVM-226   [000]   151.093537: kvm_entry:             vcpu 0 rip 0x1000
//!       kt-106       0d..1. 11793833us : kvm_entry: vcpu 0, rip 0x1000
//! ```
//!
//! A comm may have spaces, dashes and brackets in it, and a report of several buffers has their names
//! before it, so no column can be counted on. `[cpu]` and what must be on both sides of it are looked
//! for, and in the latency format the dash.

use memchr::memchr_iter;

use super::cursor::{Cursor, last_word, trim_end, whole_decimal};
use super::line::{Event, Head, Line};
use super::scan;

/// Reads a line that has its CPU in brackets, and leaves `others` those that have not. `last` is the
/// head of the line before.
#[inline(always)]
pub fn line<'a>(
    line: &'a [u8],
    last: &mut Option<Head<'a>>,
    others: impl Fn(&'a [u8]) -> Line<'a>,
) -> Line<'a> {
    if !last.is_some_and(|head| line.starts_with(head.text)) {
        *last = scan::find(line, [b'[']).and_then(|at| head(line, at));
    }
    match last.and_then(|head| event(line, head)) {
        Some(event) if !event.name.is_empty() => Line::Event(event),
        _ => at_any_bracket(line).map_or_else(|| others(line), Line::Event),
    }
}

/// The first event that has a name, or else the first at all, which then is of a tracer.
#[cold]
fn at_any_bracket(line: &[u8]) -> Option<Event<'_>> {
    let events = || {
        memchr_iter(b'[', line).filter_map(|at| head(line, at).and_then(|head| event(line, head)))
    };
    events().find(|event| !event.name.is_empty()).or_else(|| events().next())
}

/// What is up to the CPU whose bracket is at `at`.
#[inline]
fn head(line: &[u8], at: usize) -> Option<Head<'_>> {
    let mut rest = Cursor(&line[at + 1..]);
    rest.cpu()?;
    let (before, process) = process(trim_end(line[..at].strip_suffix(b" ")?))?;
    let text = &line[..line.len() - rest.0.len()];
    Some(Head { text, thread: thread(before)?, process })
}

/// What is behind the head.
#[inline(always)]
fn event<'a>(line: &'a [u8], head: Head<'_>) -> Option<Event<'a>> {
    let Head { text, thread, process } = head;
    let mut rest = Cursor(&line[text.len()..]);
    rest.spaces();
    flags(&mut rest)?;
    let time_ns = rest.time()?;
    rest.literal(b":")?;
    let (name, payload) = named(rest);
    Some(Event { time_ns, thread, process, name, payload })
}

/// The process in parentheses, of which dashes say that it is not known; and what is before it.
#[inline]
fn process(head: &[u8]) -> Option<(&[u8], u32)> {
    /// A pid has ten digits at most.
    const MOST: usize = 12;
    let Some(inside) = head.strip_suffix(b")") else { return Some((head, 0)) };
    let (outside, near) = inside.split_at(inside.len().saturating_sub(MOST));
    let open = memchr::memrchr(b'(', near)?;
    let (_, word) = last_word(&near[open + 1..]);
    let tgid = if word.starts_with(b"-") { 0 } else { whole_decimal(word)? };
    Some((trim_end(&head[..outside.len() + open]), tgid))
}

/// The thread, behind the last dash.
#[inline]
fn thread(head: &[u8]) -> Option<u32> {
    let digits = head.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, thread) = head.split_at(head.len() - digits);
    before.ends_with(b"-").then(|| whole_decimal(thread))?
}

/// Passes over the flags, four or more, if there are any: `d..1.`, or `-0x1` where they are raw.
#[inline]
fn flags(rest: &mut Cursor<'_>) -> Option<()> {
    if rest.0.first().is_some_and(u8::is_ascii_digit) {
        return Some(());
    }
    let word = rest.word();
    rest.spaces();
    (3..=8).contains(&word.len()).then_some(())
}

/// The name of an event and what is told of it.
#[inline(always)]
pub fn named(mut rest: Cursor<'_>) -> (&[u8], &[u8]) {
    rest.spaces();
    // With `--ts-diff`, the microseconds since the event before.
    if rest.0.starts_with(b"(+") {
        rest.word();
        rest.spaces();
    }
    let end = scan::find(rest.0, [b':', b' ']).unwrap_or(rest.0.len());
    let (name, payload) = rest.0.split_at(end);
    match payload.strip_prefix(b":") {
        Some(payload) => (name, scan::behind(payload, b' ')),
        None => (b"", b""),
    }
}

/// Reads a line of the latency format, where the flags are behind the CPU and no bracket is.
pub fn without_brackets<'a>(
    line: &'a [u8],
    time: impl Fn(&mut Cursor<'a>) -> Option<u64>,
) -> Option<Event<'a>> {
    memchr_iter(b'-', line).find_map(|at| {
        let mut rest = Cursor(&line[at + 1..]);
        let thread = u32::try_from(rest.decimal()?).ok()?;
        rest.literal(b" ")?;
        rest.spaces();
        rest.decimal()?;
        flags(&mut rest)?;
        let time_ns = time(&mut rest)?;
        rest.literal(b":")?;
        let (name, payload) = named(rest);
        Some(Event { time_ns, thread, process: 0, name, payload })
    })
}

/// `CPU:1 [LOST 12 EVENTS]` of the kernel, `CPU:1 [12 EVENTS DROPPED]` of trace-cmd; neither has to
/// tell how many.
pub fn loss(line: &[u8]) -> Option<Line<'static>> {
    let line = trim_end(line);
    let inside = line.strip_suffix(b"]")?;
    let open = memchr::memrchr(b'[', inside)?;
    let (_, cpu) = last_word(&inside[..open]);
    whole_decimal::<u32>(cpu.strip_prefix(b"CPU:")?)?;
    let events = match &inside[open + 1..] {
        b"LOST EVENTS" | b"EVENTS DROPPED" => None,
        told => {
            let kernel = || told.strip_prefix(b"LOST ")?.strip_suffix(b" EVENTS");
            Some(whole_decimal(kernel().or_else(|| told.strip_suffix(b" EVENTS DROPPED"))?)?)
        }
    };
    Some(Line::Lost { events, time_ns: None })
}
