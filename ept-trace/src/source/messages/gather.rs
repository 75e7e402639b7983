//! What takes more than one line to say.

use crate::model::EventKind;

/// More of a message is not shown.
const MOST_TEXT: usize = 512;

/// Something whose lines come one by one, with lines of others between them.
pub(super) trait Gather: Send {
    /// Takes the next message of the same caller.
    fn take(&mut self, message: &[u8]) -> Step;

    /// What it has told, whole or not.
    fn end(self: Box<Self>) -> Vec<EventKind>;
}

/// What a message is to something that was begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A part of it, and more may come.
    More,
    /// Its last part.
    Last,
    /// No part of it.
    Foreign,
    /// No part of it, and none can come any more: it was cut off, or its end is not marked.
    Over,
    /// A part of it that cannot be read, and why.
    Bad(&'static str),
}

/// What begins with a message.
pub(super) enum Begun {
    /// All is said.
    Said(EventKind),
    /// More lines are to come.
    Open(Box<dyn Gather>),
    /// It cannot be read, and why.
    Bad(&'static str),
}

/// A complaint, in its own words.
pub(super) fn complaint(by: &str, text: &[u8]) -> EventKind {
    let text = text.get(..MOST_TEXT).unwrap_or(text).trim_ascii();
    EventKind::Complaint { by: by.to_owned(), text: String::from_utf8_lossy(text).into_owned() }
}

/// Puts another line of a complaint to its words.
pub(super) fn append(text: &mut Vec<u8>, separator: &[u8], line: &[u8]) {
    if text.len() < MOST_TEXT {
        text.extend_from_slice(separator);
        text.extend_from_slice(line.get(..MOST_TEXT).unwrap_or(line).trim_ascii());
    }
}
