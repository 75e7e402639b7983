//! What `trace-cmd report` prints, with or without `-l`, `-t`, `-R`, `-N`, `--ts-diff`.

use super::cursor::Cursor;
use super::line::{Bad, Line};
use super::task::{self, Found};

/// The comm is as wide, and narrower in the latency format. What is before it comes of a report of
/// several buffers.
const COMM: usize = 16;
const COMM_OF_LATENCY: usize = 8;

/// Reads a line.
pub fn line(line: &[u8]) -> Line<'_> {
    if let Some(found) = task::with_brackets(line) {
        return event(&found, COMM);
    }
    if let Some(found) = task::without_brackets(line, Cursor::time) {
        return event(&found, COMM_OF_LATENCY);
    }
    if let Some(lost) = task::loss(line) {
        return lost;
    }
    if is_chatter(line) { Line::Nothing } else { Line::Bad(Bad::NoEvent) }
}

fn event<'a>(found: &Found<'a>, comm: usize) -> Line<'a> {
    let prefix = &found.before[..found.before.len().saturating_sub(comm)];
    if prefix.is_empty() || is_of_this_machine(prefix) {
        Line::Event(found.event)
    } else {
        Line::Bad(Bad::OtherFile)
    }
}

/// `instance NAME: `, or the spaces that the lines of the top buffer have instead; a file has its name
/// there, and may be of a guest.
fn is_of_this_machine(prefix: &[u8]) -> bool {
    let prefix = prefix.trim_ascii();
    prefix.is_empty() || prefix.starts_with(b"instance ")
}

/// What trace-cmd and its library say of themselves and of the file.
fn is_chatter(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 6] = [
        b"cpus=",
        b"version = ",
        b"overriding event ",
        b"trace-cmd: ",
        b"libtraceevent: ",
        // Such as `[kvmmmu:kvm_mmu_get_page] bad op token {`.
        b"[",
    ];
    let text = line.trim_ascii();
    text.is_empty()
        || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || text.starts_with(b"CPU ") && text.ends_with(b" is empty")
        || task::is_stack(line)
}
