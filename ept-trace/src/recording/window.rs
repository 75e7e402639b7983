//! A stream that is looked into ahead of where it is read.

use std::io::{self, Read};

/// Read at a time, at most; a pipe gives less.
const CHUNK: usize = 64 << 10;

/// What comes next of a stream. It holds no more than is asked for, and a [`CHUNK`].
pub struct Window<R> {
    input: R,
    /// Of these, the bytes from `start` to `end` are the next of the stream.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the stream `start` is.
    offset: u64,
}

impl<R: Read> Window<R> {
    /// From the stream's beginning.
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, offset: 0 }
    }

    /// Where the next byte is in the stream.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes: as many as are asked for, or what is left at the stream's end.
    pub fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.end - self.start < length {
            self.make_room();
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let end = self.end.min(self.start + length);
        Ok(&self.buffer[self.start..end])
    }

    /// Passes over bytes that were looked at.
    pub fn pass(&mut self, length: usize) {
        let length = length.min(self.end - self.start);
        self.start += length;
        self.offset += length as u64;
    }

    /// Passes over bytes until what comes next begins with one of two marks, or is nothing.
    pub fn pass_to(&mut self, marks: [&[u8]; 2]) -> io::Result<()> {
        let longest = marks[0].len().max(marks[1].len());
        loop {
            let is_last = self.peek(longest)?.len() < longest;
            let ahead = &self.buffer[self.start..self.end];
            let is_mark = |at: &usize| marks.iter().any(|mark| ahead[*at..].starts_with(mark));
            if let Some(at) = (0..ahead.len()).find(is_mark) {
                self.pass(at);
                return Ok(());
            }
            // A mark may have begun in the last bytes.
            let keep = if is_last { 0 } else { longest - 1 };
            self.pass(ahead.len() - keep);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Makes room for more. The bytes are moved seldom enough that each is moved but a few times.
    fn make_room(&mut self) {
        if self.start > 0 && self.start >= self.end - self.start {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
    }
}
