//! The bytes of a file, read where they are asked for; never the whole of it.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use super::error::Trouble;

/// Bytes that can be read anywhere.
pub trait Bytes {
    /// How many there are.
    fn size(&self) -> u64;

    /// Reads from offset `at`; fewer bytes than asked for only at the end.
    fn read_some(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Where in the user's file this offset is, for errors.
    fn offset_in_file(&self, at: u64) -> u64 {
        at
    }

    /// Fills `buffer` from offset `at`; an error that names the offset if the file ends before.
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), Trouble> {
        let in_file = self.offset_in_file(at);
        match self.read_some(buffer, at) {
            Ok(read) if read == buffer.len() => Ok(()),
            Ok(_) => Err(Trouble::bad(in_file, "the file ends here: copy it again")),
            Err(source) => Err(Trouble::Io { at: in_file, source }),
        }
    }
}

/// Reads `length` bytes, which the caller has bounded, from offset `at`.
pub fn read_vec(bytes: &dyn Bytes, length: u64, at: u64) -> Result<Vec<u8>, Trouble> {
    let too_many = |_| Trouble::bad(at, "more than this machine can address");
    let mut read = vec![0; usize::try_from(length).map_err(too_many)?];
    bytes.read(&mut read, at)?;
    Ok(read)
}

/// A file, which has to be one that can be read anywhere.
#[derive(Debug)]
pub struct Opened {
    file: File,
    size: u64,
}

impl Opened {
    /// The whole of `file`, as long as it is now.
    pub fn new(mut file: File) -> Result<Self, Trouble> {
        let size = file.seek(SeekFrom::End(0)).map_err(|err| match err.kind() {
            io::ErrorKind::NotSeekable => {
                Trouble::Refused("a pipe cannot be read: save the dump to a file first".to_owned())
            }
            _ => Trouble::Io { at: 0, source: err },
        })?;
        Ok(Self { file, size })
    }

    /// A file whose size says nothing, as those of /proc.
    #[cfg(feature = "live")]
    pub fn unsized_file(file: File) -> Self {
        Self { file, size: u64::MAX }
    }
}

impl Bytes for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_some(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            // Offsets above i64::MAX are in no file, and pread refuses them.
            let Some(from) = at.checked_add(done as u64).filter(|at| i64::try_from(*at).is_ok())
            else {
                break;
            };
            match self.file.read_at(&mut buffer[done..], from) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
impl Bytes for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_some(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// The first bytes, as many as there are up to `N`; the others are 0.
pub fn head<const N: usize>(bytes: &dyn Bytes) -> Result<[u8; N], Trouble> {
    let mut head = [0; N];
    bytes.read_some(&mut head, 0).map_err(|source| Trouble::Io { at: 0, source })?;
    Ok(head)
}

/// The little-endian integer of `N` bytes at `at` of a header, whose reader knows its length.
fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// The `u16` at `at`.
pub fn u16_at(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(header, at))
}

/// The `u32` at `at`.
pub fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(header, at))
}

/// The `u64` at `at`.
pub fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(header, at))
}
