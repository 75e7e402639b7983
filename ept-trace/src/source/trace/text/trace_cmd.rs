//! What `trace-cmd report` prints, with or without `-l`, `-t`, `-R`, `-N`, `--ts-diff`.

use super::chatter;
use super::cursor::{Cursor, whole_decimal};
use super::line::{Bad, Head, Line};
use super::task;

/// What trace-cmd says of itself and of the file.
const CHATTER: [&[u8]; 4] = [b"cpus=", b"version = ", b"overriding event ", b"trace-cmd: "];

/// Reads a line. `last` is the head of the line before.
#[inline]
pub fn line<'a>(line: &'a [u8], last: &mut Option<Head<'a>>) -> Line<'a> {
    task::line(line, last, without_brackets)
}

fn without_brackets(line: &[u8]) -> Line<'_> {
    if let Some(event) = task::without_brackets(line, Cursor::time) {
        return Line::Event(event);
    }
    if let Some(lost) = task::loss(line) {
        return lost;
    }
    // `CPU 1 is empty`.
    if line.ends_with(b" is empty") || chatter::is(line, &CHATTER) {
        Line::Nothing
    } else {
        Line::Bad(Bad::NoEvent)
    }
}

/// Whether it is the first line of a report of several files, whose names all its lines have before
/// them as they have those of buffers: `host.dat: cpus=2`.
pub fn is_of_several_files(line: &[u8]) -> bool {
    const MARK: &[u8] = b": cpus=";
    memchr::memmem::find(line, MARK)
        .is_some_and(|at| whole_decimal::<u32>(&line[at + MARK.len()..]).is_some())
}
