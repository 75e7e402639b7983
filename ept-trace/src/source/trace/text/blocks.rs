//! A stream of bytes, cut into blocks of whole lines.

use std::io::{self, Read};

/// Large enough that the cutting costs nothing, small enough for a cache, and for some thousands of
/// events.
const SIZE: usize = 512 << 10;

/// Some lines.
#[derive(Debug, Default)]
pub struct Block {
    pub bytes: Vec<u8>,
    /// It begins inside a line that is longer than a block.
    pub begins_inside: bool,
    /// Nothing comes after it.
    pub is_last: bool,
}

/// Cuts a stream.
pub struct Blocks {
    input: Box<dyn Read + Send>,
    /// What was read behind the last line of the block before.
    rest: Vec<u8>,
    begins_inside: bool,
    has_ended: bool,
    /// Why it has ended, if that was too soon.
    error: Option<io::Error>,
}

impl Blocks {
    pub fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, rest: Vec::new(), begins_inside: false, has_ended: false, error: None }
    }

    /// The next block, in the memory of one that is no longer needed.
    ///
    /// # Errors
    ///
    /// The input's, once what was read before it has been given.
    pub fn next(&mut self, mut bytes: Vec<u8>) -> io::Result<Option<Block>> {
        if self.has_ended {
            return self.error.take().map_or(Ok(None), Err);
        }
        // What is in it already is written over, and only what it lacks is made.
        bytes.resize(SIZE, 0);
        let mut length = self.rest.len();
        bytes[..length].copy_from_slice(&self.rest);
        self.rest.clear();
        while length < SIZE && !self.has_ended {
            match self.input.read(&mut bytes[length..]) {
                Ok(0) => self.has_ended = true,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error);
                    self.has_ended = true;
                }
            }
        }
        bytes.truncate(length);
        if bytes.is_empty() {
            return self.error.take().map_or(Ok(None), Err);
        }
        let begins_inside = self.begins_inside;
        if !self.has_ended {
            let end = memchr::memrchr(b'\n', &bytes).map(|newline| newline + 1);
            self.begins_inside = end.is_none();
            if let Some(end) = end {
                self.rest.extend_from_slice(&bytes[end..]);
                bytes.truncate(end);
            }
        }
        Ok(Some(Block { bytes, begins_inside, is_last: self.has_ended }))
    }
}
