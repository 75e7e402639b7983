//! The frames of a stream: each checked, and what is damaged passed over until the next that is not.

use std::fmt;
use std::io::{self, Read};

use zstd::bulk::Decompressor;

use super::layout::{FIXED, FRAME, Frame, Header, MAGIC, MARKER, NoHeader, crc, kind};
use super::window::Window;

/// Bytes that are summed in vain before a damaged frame is passed over as a whole. Of frames that
/// were written there are never as many; without a limit, a file could have one begin in another,
/// and so on, and take time without end.
const PATIENCE: u64 = 64 << 20;

/// What comes next in a recording.
#[derive(Debug)]
pub enum Item {
    /// A part begins.
    Part(Header),
    /// A frame, with its text.
    Frame(Frame, Vec<u8>),
    /// Something was passed over: where, and what is wrong with it.
    Damage(Place, &'static str),
    /// Nothing.
    End,
}

/// A place in a recording, as a user is told.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The part, if it is not the first.
    part: Option<u32>,
    /// From its begin, in bytes.
    offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(part) = self.part {
            write!(f, "part {part}, ")?;
        }
        write!(f, "offset {:#x}", self.offset)
    }
}

/// Reads one item after another.
pub struct Frames<R> {
    window: Window<R>,
    decompressor: Decompressor<'static>,
    /// Where the part begins in the stream, and its number if that is not 1.
    start: u64,
    part: Option<u32>,
    /// Bytes that were summed, and the sum was wrong.
    in_vain: u64,
}

impl<R: Read> Frames<R> {
    /// From the beginning of `input`.
    pub fn new(input: R) -> io::Result<Self> {
        let decompressor = Decompressor::new()?;
        Ok(Self { window: Window::new(input), decompressor, start: 0, part: None, in_vain: 0 })
    }

    /// Where the next item is.
    pub fn place(&self) -> Place {
        Place { part: self.part, offset: self.window.offset() - self.start }
    }

    /// The next item.
    ///
    /// # Errors
    ///
    /// If the stream cannot be read, or was written by a later program.
    pub fn next(&mut self) -> io::Result<Item> {
        let head = self.window.peek(FRAME)?;
        if head.is_empty() {
            Ok(Item::End)
        } else if head.starts_with(&MAGIC) {
            self.header()
        } else if head.starts_with(&MARKER) {
            match Frame::decode(head) {
                Some(frame) => self.frame(&frame),
                None if head.len() < FRAME => self.damaged("a frame is cut off", 1),
                None => self.damaged("the header of a frame is damaged", 1),
            }
        } else {
            self.damaged("there is no frame where one should be", 1)
        }
    }

    fn header(&mut self) -> io::Result<Item> {
        let length = Header::length(self.window.peek(FIXED)?).unwrap_or(0);
        match Header::decode(self.window.peek(length)?) {
            Ok(header) => {
                self.start = self.window.offset();
                self.part = Some(header.part).filter(|part| *part != 1);
                self.window.pass(length);
                Ok(Item::Part(header))
            }
            Err(err @ NoHeader::Newer(_)) => Err(err.into()),
            Err(NoHeader::Damaged) => self.damaged("the header of the file is damaged", 1),
        }
    }

    fn frame(&mut self, frame: &Frame) -> io::Result<Item> {
        let length = FRAME + frame.stored as usize;
        let stored = self.window.peek(length)?.get(FRAME..).unwrap_or_default();
        if stored.len() < frame.stored as usize {
            // Or there are bytes missing in it, and another frame begins before its end.
            return self.damaged("a frame is cut off", FRAME);
        }
        if crc(stored) != frame.crc {
            self.in_vain += u64::from(frame.stored);
            let is_patient = self.in_vain <= PATIENCE.saturating_add(self.window.offset());
            let inside = if is_patient { FRAME } else { length };
            return self.damaged("what is in a frame is damaged", inside);
        }
        let text = match frame.kind {
            kind::OBSERVATIONS | kind::STATE => {
                let mut text = Vec::with_capacity(frame.text as usize);
                let length = self.decompressor.decompress_to_buffer(stored, &mut text);
                length.ok().filter(|length| *length == frame.text as usize).map(|_| text)
            }
            // Nothing, or what a later program has added.
            _ => Some(Vec::new()),
        };
        let Some(text) = text else {
            return self.damaged("what is in a frame cannot be decompressed", length);
        };
        self.window.pass(length);
        Ok(Item::Frame(*frame, text))
    }

    /// Passes over what is damaged, `length` bytes at least.
    fn damaged(&mut self, what: &'static str, length: usize) -> io::Result<Item> {
        let place = self.place();
        self.window.pass(length);
        self.window.pass_to([&MAGIC, &MARKER])?;
        Ok(Item::Damage(place, what))
    }
}
