//! Numbers and strings of a file, one after the other.

use std::io::{self, Read, Seek, SeekFrom};

/// A file that is read from its begin on, little-endian.
#[derive(Debug)]
pub struct Input<R> {
    inner: R,
    at: u64,
}

impl<R: Read + Seek> Input<R> {
    /// Reads `inner` from where it stands.
    ///
    /// # Errors
    ///
    /// It cannot tell where that is.
    pub fn new(mut inner: R) -> io::Result<Self> {
        let at = inner.stream_position()?;
        Ok(Self { inner, at })
    }

    /// The offset of what comes next.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// An error about what comes next, or what was just read.
    pub fn bad(&self, what: &str) -> io::Error {
        let what = format!("offset {:#x}: {what}", self.at);
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// The next bytes, so many.
    ///
    /// # Errors
    ///
    /// The file ends before.
    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of 2 bytes.
    ///
    /// # Errors
    ///
    /// The file ends before.
    pub fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number of 4 bytes.
    ///
    /// # Errors
    ///
    /// The file ends before.
    pub fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of 8 bytes.
    ///
    /// # Errors
    ///
    /// The file ends before.
    pub fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many of something there are.
    ///
    /// # Errors
    ///
    /// More than `most`, or the file ends before.
    pub fn count(&mut self, most: u32) -> io::Result<u32> {
        let count = self.u32()?;
        if count > most {
            return Err(self.bad(&format!("a count of {count}, which is impossible")));
        }
        Ok(count)
    }

    /// Bytes, so many.
    ///
    /// # Errors
    ///
    /// More than `most`, or the file ends before.
    pub fn bytes(&mut self, size: u64, most: u64) -> io::Result<Vec<u8>> {
        if size > most {
            return Err(self.bad(&format!("a size of {size} bytes, which is impossible")));
        }
        let mut bytes = Vec::new();
        let read = self.inner.by_ref().take(size).read_to_end(&mut bytes)? as u64;
        if read < size {
            return Err(self.ends());
        }
        self.at += read;
        Ok(bytes)
    }

    /// A text, and before it its size in 8 bytes.
    ///
    /// # Errors
    ///
    /// It is of more than `most` bytes, or the file ends before.
    pub fn sized_text(&mut self, most: u64) -> io::Result<String> {
        let size = self.u64()?;
        Ok(String::from_utf8_lossy(&self.bytes(size, most)?).into_owned())
    }

    /// A string that ends with a zero.
    ///
    /// # Errors
    ///
    /// It is of more than `most` bytes, or the file ends before.
    pub fn string(&mut self, most: usize) -> io::Result<String> {
        let mut bytes = Vec::new();
        loop {
            match self.array()? {
                [0] => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                _ if bytes.len() == most => return Err(self.bad("a string without an end")),
                [byte] => bytes.push(byte),
            }
        }
    }

    /// Passes over these bytes.
    ///
    /// # Errors
    ///
    /// Others are there, or the file ends before.
    pub fn expect(&mut self, expected: &[u8]) -> io::Result<()> {
        let found = self.bytes(expected.len() as u64, expected.len() as u64)?;
        if found == expected {
            return Ok(());
        }
        let expected = String::from_utf8_lossy(expected);
        Err(self.bad(&format!("no {:?} before this", expected.trim_end_matches('\0'))))
    }

    /// Passes over so many bytes, whether they are there or not.
    ///
    /// # Errors
    ///
    /// No file can be so large.
    pub fn skip(&mut self, size: u64) -> io::Result<()> {
        self.go_to(self.at.saturating_add(size))
    }

    /// Goes on at another offset, whether it is in the file or not.
    ///
    /// # Errors
    ///
    /// No file can be so large.
    pub fn go_to(&mut self, at: u64) -> io::Result<()> {
        if i64::try_from(at).is_err() {
            return Err(self.bad(&format!("it leads to offset {at:#x}, which is impossible")));
        }
        self.at = self.inner.seek(SeekFrom::Start(at))?;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self.inner.read_exact(bytes) {
            Ok(()) => self.at += bytes.len() as u64,
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Err(self.ends()),
            Err(err) => return Err(err),
        }
        Ok(())
    }

    fn ends(&self) -> io::Error {
        let what = format!("offset {:#x}: the file ends here", self.at);
        io::Error::new(io::ErrorKind::UnexpectedEof, what)
    }
}
