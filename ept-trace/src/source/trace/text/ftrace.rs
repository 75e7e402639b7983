//! What the kernel prints: `trace` and `trace_pipe` of tracefs, with any of the trace options that
//! leave the text readable (`kernel/trace/trace_output.c`).

use super::chatter;
use super::cursor::{Cursor, last_word, whole_decimal, whole_hex};
use super::line::{Bad, Event, Head, Line};
use super::task;

/// Reads a line. `last` is the head of the line before.
#[inline]
pub fn line<'a>(line: &'a [u8], last: &mut Option<Head<'a>>) -> Line<'a> {
    task::line(line, last, without_brackets)
}

fn without_brackets(line: &[u8]) -> Line<'_> {
    if line.first() == Some(&b'#') {
        return comment(line);
    }
    let event = task::without_brackets(line, latency_time).or_else(|| verbose(line));
    if let Some(event) = event {
        return Line::Event(event);
    }
    if let Some(lost) = task::loss(line) {
        return lost;
    }
    if chatter::is(line, &[]) { Line::Nothing } else { Line::Bad(Bad::NoEvent) }
}

/// The time of the latency format: microseconds since the buffer was begun, and a mark where the next
/// event is late: `11793833us!`. A clock of its own has no unit.
fn latency_time(rest: &mut Cursor<'_>) -> Option<u64> {
    let time = rest.decimal()?;
    if rest.literal(b"us").is_none() {
        return Some(time);
    }
    // The mark is a space where nothing is late.
    rest.0 = rest.0.get(1..)?;
    time.checked_mul(1000)
}

/// The latency format with `verbose`: comm, pid, CPU, flags, preempt count, index, the time in
/// microseconds, that since the buffer was begun, and that until the next event.
///
/// ```text
///               kt   18264   0 0 00000000 0000000c [50ac1823] 1353455.651ms (+0.003ms): kvm_fpu: load
/// ```
fn verbose(line: &[u8]) -> Option<Event<'_>> {
    memchr::memchr_iter(b'[', line).find_map(|at| verbose_at(line, at))
}

fn verbose_at(line: &[u8], at: usize) -> Option<Event<'_>> {
    let mut rest = Cursor(&line[at + 1..]);
    let time = rest.hex()?;
    rest.literal(b"] ")?;
    let since = rest.word();
    rest.literal(b" (+")?;
    let until = rest.word().strip_suffix(b"):")?;
    // A clock of its own has no unit.
    let time_ns = match (since.strip_suffix(b"ms"), until.strip_suffix(b"ms")) {
        (Some(_), Some(_)) => time.checked_mul(1000)?,
        (None, None) => time,
        _ => return None,
    };

    let (head, index) = last_word(&line[..at]);
    let (head, preempt_count) = last_word(head);
    let (head, flags) = last_word(head);
    let (head, cpu) = last_word(head);
    let (_, thread) = last_word(head);
    whole_hex(index).and(whole_hex(preempt_count))?;
    whole_decimal::<u32>(flags).and(whole_decimal::<u32>(cpu))?;

    let (name, payload) = task::named(rest);
    Some(Event { time_ns, thread: whole_decimal(thread)?, process: 0, name, payload })
}

/// The head of a log tells how many events were written and how many of them are left; that the
/// buffer of a CPU begins only here is told where some of it was overwritten.
fn comment(line: &[u8]) -> Line<'_> {
    const OVERWRITTEN: Line<'_> = Line::Lost { events: None, time_ns: None };
    if line.starts_with(b"##### CPU ") && line.ends_with(b" buffer started ####") {
        return OVERWRITTEN;
    }
    let left = line
        .strip_prefix(b"# entries-in-buffer/entries-written: ")
        .or_else(|| after(line, b"# latency: ", b", #"));
    let Some((entries, written)) = left.and_then(entries) else { return Line::Nothing };
    match written.checked_sub(entries) {
        None | Some(0) => Line::Nothing,
        events => Line::Lost { events, time_ns: None },
    }
}

/// What is behind `mark`, of a line that begins with `begin`.
fn after<'a>(line: &'a [u8], begin: &[u8], mark: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(begin)?;
    Some(&rest[memchr::memmem::find(rest, mark)? + mark.len()..])
}

/// `843/1200`.
fn entries(left: &[u8]) -> Option<(u64, u64)> {
    let mut left = Cursor(left);
    let entries = left.decimal()?;
    left.literal(b"/")?;
    Some((entries, left.decimal()?))
}
