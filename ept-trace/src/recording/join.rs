//! The parts of a recording as one stream.

use std::io::{self, Read};

/// Reads several inputs in a row as if they were one. Each is opened when those before it are at
/// their end, so that there may be many.
#[derive(Debug)]
pub struct Joined<I, R> {
    rest: I,
    open: Option<R>,
}

impl<I: Iterator<Item = io::Result<R>>, R: Read> Joined<I, R> {
    /// Of these inputs.
    pub fn new(inputs: I) -> Self {
        Self { rest: inputs, open: None }
    }
}

impl<I: Iterator<Item = io::Result<R>>, R: Read> Read for Joined<I, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(open) = &mut self.open {
                let read = open.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            self.open = self.rest.next().transpose()?;
            if self.open.is_none() {
                return Ok(0);
            }
        }
    }
}
