//! Files of observations: JSON lines, one [`Event`] each, as `watch -o` writes them.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use crate::model::Event;

/// Longer lines are refused: no observation comes near, and memory stays bounded.
const MAX_LINE: u64 = 1 << 20;

/// A line that is not an observation.
#[derive(Debug)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.why)
    }
}

/// Reads observations; bad lines are named, and passed over.
pub struct Observations<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Observations<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let length = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        self.number += 1;
        if line.last() != Some(&b'\n') && length as u64 == MAX_LINE {
            // The rest of it belongs to the same bad line.
            self.input.skip_until(b'\n')?;
        }
        Ok((length > 0).then_some(line))
    }
}

impl<R: BufRead> Iterator for Observations<R> {
    type Item = io::Result<Result<Event, BadLine>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.line() {
                Ok(line) => line?,
                Err(err) => return Some(Err(err)),
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let event = serde_json::from_slice(&line);
            return Some(Ok(event.map_err(|err| BadLine {
                number: self.number,
                why: err.to_string().escape_debug().to_string(),
            })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let text = "{\"time_ns\":1,\"event\":\"gap\",\"reason\":\"x\"}\n\nnonsense\n\
            {\"time_ns\":2,\"event\":\"loss\",\"hook\":\"h\",\"records\":3}";
        let lines: Vec<_> = Observations::new(text.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].as_ref().unwrap().time_ns, 1);
        assert_eq!(lines[1].as_ref().unwrap_err().number, 3);
        assert_eq!(lines[2].as_ref().unwrap().time_ns, 2);
    }

    #[test]
    fn an_endless_line_is_one_bad_line() {
        let mut text = vec![b'x'; 3 << 20];
        text.extend(b"\n{\"time_ns\":1,\"event\":\"gap\",\"reason\":\"x\"}\n");
        let lines: Vec<_> = Observations::new(&text[..]).map(Result::unwrap).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].is_err() && lines[1].is_ok());
    }
}
