//! Files of observations: JSON lines, one [`Event`] each, as `analyze --format observations` writes
//! them.

use std::io::{self, BufRead, Read as _};

use super::{Source, Told};
use crate::model::{Event, EventKind};

/// Longer lines are refused: no observation comes near, and memory stays bounded.
const MAX_LINE: u64 = 1 << 20;

/// Observations told at a time.
const BATCH: usize = 1024;

/// Reads observations; bad lines are named, and passed over.
pub struct Observations<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    /// Time of the last observation, and whether it is the end of a run.
    last: Option<(u64, bool)>,
}

impl<R: BufRead> Observations<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0, last: None }
    }

    /// Whether a file that begins like this is one: its first line is an object that has a time and
    /// an event.
    pub fn recognise(head: &[u8]) -> bool {
        let line = head.trim_ascii_start();
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
        let has = |key: &[u8]| line.windows(key.len()).any(|at| at == key);
        line.starts_with(b"{") && has(b"\"time_ns\"") && has(b"\"event\"")
    }

    /// Reads the next line; false at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let length = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line)?;
        self.number += 1;
        if self.line.last() != Some(&b'\n') && length as u64 == MAX_LINE {
            // The rest of it belongs to the same bad line.
            self.input.skip_until(b'\n')?;
        }
        Ok(length > 0)
    }
}

impl<R: BufRead + Send> Source for Observations<R> {
    fn read(&mut self, told: &mut Told) -> io::Result<()> {
        while told.events.len() < BATCH {
            if !self.next_line()? {
                // A run that ended by itself says so.
                if let Some((time_ns, false)) = self.last.replace((0, true)) {
                    let reason = "the file was cut off here: its end is missing".to_owned();
                    told.events.push(Event { time_ns, kind: EventKind::Gap { reason } });
                }
                break;
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Event>(&self.line) {
                Ok(event) => {
                    self.last = Some((event.time_ns, event.kind == EventKind::End));
                    told.events.push(event);
                }
                Err(err) => {
                    // It may have been anything.
                    let time_ns = self.last.map_or(0, |(time_ns, _)| time_ns);
                    let reason = format!("line {} is no observation", self.number);
                    told.events.push(Event { time_ns, kind: EventKind::Gap { reason } });
                    let why = err.to_string();
                    told.skipped.note(|| format!("line {}: {}", self.number, why.escape_debug()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Told {
        let mut told = Told::default();
        Observations::new(text).read(&mut told).unwrap();
        told
    }

    fn times(told: &Told) -> Vec<u64> {
        told.events.iter().map(|event| event.time_ns).collect()
    }

    const END: &str = "{\"time_ns\":9,\"event\":\"end\"}";

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let text = format!(
            "{{\"time_ns\":1,\"event\":\"gap\",\"reason\":\"x\"}}\n\nnonsense\n\
             {{\"time_ns\":2,\"event\":\"loss\",\"hook\":\"h\",\"records\":3}}\n{END}"
        );
        let told = read(text.as_bytes());
        assert_eq!(times(&told), [1, 1, 2, 9], "the second is the gap");
        assert_eq!(told.skipped.count, 1);
        assert!(told.skipped.first[0].starts_with("line 3: "), "{:?}", told.skipped);
    }

    #[test]
    fn an_endless_line_is_one_bad_line() {
        let mut text = vec![b'x'; 3 << 20];
        text.extend(format!("\n{END}\n").into_bytes());
        let told = read(&text);
        assert_eq!((times(&told), told.skipped.count), (vec![0, 9], 1));
    }

    #[test]
    fn a_missing_end_is_a_gap() {
        let cut = read(b"{\"time_ns\":5,\"event\":\"vm_gone\",\"vm\":1}\n");
        assert_eq!(times(&cut), [5, 5]);
        assert!(matches!(cut.events[1].kind, EventKind::Gap { .. }));
        assert_eq!(read(END.as_bytes()).events.len(), 1);
    }

    #[test]
    fn files_are_known_by_their_first_line() {
        let is_one = |text: &str| Observations::<&[u8]>::recognise(text.as_bytes());
        assert!(is_one(END) && is_one(&format!("\n {END}\n")));
        for other in ["", "{}", "{\"dmesg\": [", "text"] {
            assert!(!is_one(other), "{other}");
        }
    }
}
