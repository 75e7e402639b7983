//! Flattened dumps: the writes that makedumpfile or QEMU would have made to a file, one after
//! another, for a pipe. They are indexed and read where they are; nothing is written anew.

use std::io;

use super::bytes::{Bytes, head};
use super::error::Trouble;
use super::extents::Extents;

pub const MAGIC: &[u8] = b"makedumpfile\0";

/// The header is padded to this.
const HEADER: usize = 4096;
/// Before each write: its offset and its size, big-endian; -1 for both at the end.
const WRITE: usize = 16;

/// The file that a flattened dump would be, were it not.
pub struct Flattened {
    stream: Box<dyn Bytes>,
    writes: Extents,
    /// The end was reached, so that what was not written is 0, and not missing.
    is_whole: bool,
}

impl Flattened {
    /// Indexes the writes. Where the stream is cut off, what came until then is kept.
    pub fn new(stream: Box<dyn Bytes>) -> Result<Self, Trouble> {
        let header = head::<32>(&*stream)?;
        if (i64_at(&header, 16), i64_at(&header, 24)) != (1, 1) {
            let what = "not type 1, version 1 of a flattened dump: the only ones known";
            return Err(Trouble::bad(16, what));
        }
        let mut writes = Extents::default();
        let mut at = HEADER as u64;
        let is_whole = loop {
            let mut write = [0; WRITE];
            let read = stream.read_some(&mut write, at);
            if read.map_err(|source| Trouble::Io { at, source })? < write.len() {
                break false;
            }
            let (offset, size) = (i64_at(&write, 0), i64_at(&write, 8));
            if (offset, size) == (-1, -1) {
                break true;
            }
            let (Ok(offset), Ok(size @ 1..)) = (u64::try_from(offset), u64::try_from(size)) else {
                let what = format!("a write of {size} bytes at {offset}: the stream is damaged");
                return Err(Trouble::bad(at, what));
            };
            let data = at + WRITE as u64;
            writes.insert(offset, size, data).map_err(|_| {
                let what = "too many separate writes to be kept: make a plain dump of it with \
                            `makedumpfile -R DUMP < FILE`";
                Trouble::bad(at, what)
            })?;
            at = data.saturating_add(size);
        };
        writes.cut_off_at(stream.size());
        Ok(Self { stream, writes, is_whole })
    }

    /// Whether the stream has its end.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }
}

fn i64_at(header: &[u8], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    i64::from_be_bytes(bytes)
}

impl Bytes for Flattened {
    fn size(&self) -> u64 {
        self.writes.end()
    }

    fn read_some(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let from = at.saturating_add(done as u64);
            let rest = &mut buffer[done..];
            let (length, offset) = if let Some(write) = self.writes.find(from) {
                let into = from - write.start;
                (write.length - into, Some(write.offset + into))
            } else {
                match self.writes.next_after(from) {
                    Some(next) if self.is_whole => (next.start - from, None),
                    _ => break,
                }
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            let Some(offset) = offset else {
                rest[..length].fill(0);
                done += length;
                continue;
            };
            let read = self.stream.read_some(&mut rest[..length], offset)?;
            done += read;
            if read < length {
                break;
            }
        }
        Ok(done)
    }

    fn offset_in_file(&self, at: u64) -> u64 {
        match self.writes.find(at) {
            Some(write) => self.stream.offset_in_file(write.offset + (at - write.start)),
            None => self.stream.size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(writes: &[(i64, &[u8])]) -> Vec<u8> {
        let mut stream = MAGIC.to_vec();
        stream.resize(16, 0);
        stream.extend(1_i64.to_be_bytes());
        stream.extend(1_i64.to_be_bytes());
        stream.resize(HEADER, 0);
        for (offset, data) in writes {
            stream.extend(offset.to_be_bytes());
            stream.extend(i64::try_from(data.len()).unwrap().to_be_bytes());
            stream.extend(*data);
        }
        stream
    }

    const END: [u8; 16] = [0xff; 16];

    fn all(stream: Vec<u8>) -> Vec<u8> {
        let flattened = Flattened::new(Box::new(stream)).unwrap();
        let mut all = vec![0xee; 64];
        let length = flattened.read_some(&mut all, 0).unwrap();
        all.truncate(length);
        all
    }

    #[test]
    fn later_writes_win_and_holes_are_zero() {
        let mut stream = stream(&[(0, b"abcdef"), (10, b"xyz"), (2, b"CD")]);
        stream.extend(END);
        assert_eq!(all(stream), b"abCDef\0\0\0\0xyz");
    }

    #[test]
    fn what_a_stream_that_is_cut_off_does_not_have_is_missing() {
        let stream = stream(&[(0, b"abc"), (10, b"xyz")]);
        assert_eq!(all(stream.clone()), b"abc");
        assert_eq!(all(stream[..stream.len() - 1].to_vec()), b"abc");
        let flattened = Flattened::new(Box::new(stream[..stream.len() - 1].to_vec())).unwrap();
        assert!(!flattened.is_whole());
        let mut two = [0; 3];
        assert_eq!(flattened.read_some(&mut two, 10).unwrap(), 2);
    }

    #[test]
    fn a_write_at_a_negative_offset_is_damage() {
        let stream = stream(&[(-2, b"abc")]);
        let err = Flattened::new(Box::new(stream)).err().unwrap();
        assert!(err.to_string().starts_with("offset 0x1000: "), "{err}");
    }
}
