//! A file or the standard input, read through whatever has compressed it.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// How much of the begin is looked at, in bytes.
pub const HEAD: u64 = 64 << 10;

/// What xz may take to decompress, in bytes: files of `xz -9` need 65 MiB.
const MOST_XZ_MEMORY: u64 = 80 << 20;

/// The most that zstd may look back, as a power of two: what `zstd` itself unpacks without being asked
/// for more.
const MOST_ZSTD_WINDOW: u32 = 27;

/// The most that is unpacked where a format needs to be read here and there, in bytes.
const MOST_UNPACKED: u64 = 64 << 30;

/// An input, of which the begin has been read.
pub struct Input {
    /// The first bytes, [`HEAD`] of them or all that there are.
    pub head: Vec<u8>,
    from: Rest,
}

enum Rest {
    /// As it lies on the disk.
    Plain(File),
    /// What follows the head.
    Stream(Box<dyn Read + Send>),
}

impl Input {
    /// Opens a file; `-` is the standard input.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, read, or unpacked.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::of_stream(Box::new(io::stdin()));
        }
        let file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Self::of_stream(Box::new(file));
        }
        let mut file = file;
        let head = read_head(&mut file)?;
        if Packing::of(&head).is_none() {
            return Ok(Self { head, from: Rest::Plain(file) });
        }
        file.rewind()?;
        Self::of_stream(Box::new(file))
    }

    /// Takes a stream, such as a pipe.
    ///
    /// # Errors
    ///
    /// If it cannot be read or unpacked.
    pub fn of_stream(mut stream: Box<dyn Read + Send>) -> io::Result<Self> {
        let head = read_head(&mut stream)?;
        let Some(packing) = Packing::of(&head) else {
            return Ok(Self { head, from: Rest::Stream(stream) });
        };
        let mut stream = packing.unpack(Box::new(Cursor::new(head).chain(stream)))?;
        let head = read_head(&mut stream)?;
        Ok(Self { head, from: Rest::Stream(stream) })
    }

    /// All of it from its begin, as a stream.
    ///
    /// # Errors
    ///
    /// If a file cannot be read from its begin again.
    pub fn into_stream(self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self.from {
            Rest::Plain(mut file) => {
                file.rewind()?;
                Box::new(file)
            }
            Rest::Stream(rest) => Box::new(Cursor::new(self.head).chain(rest)),
        })
    }

    /// All of it as a file that can be read here and there; a stream is put into a file without a
    /// name first.
    ///
    /// # Errors
    ///
    /// If there is no room for it.
    pub fn into_file(self) -> io::Result<File> {
        let rest = match self.from {
            Rest::Plain(file) => return Ok(file),
            Rest::Stream(rest) => rest,
        };
        let mut file = tempfile::tempfile()?;
        file.write_all(&self.head)?;
        let copied = io::copy(&mut rest.take(MOST_UNPACKED), &mut file)?;
        if copied == MOST_UNPACKED {
            return Err(io::Error::other(format!("more than {} GiB", MOST_UNPACKED >> 30)));
        }
        file.rewind()?;
        Ok(file)
    }
}

fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    stream.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// What has compressed a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn unpack(self, packed: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Xz => {
                let stream = Stream::new_stream_decoder(MOST_XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(packed, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(packed)?;
                decoder.window_log_max(MOST_ZSTD_WINDOW)?;
                Box::new(decoder)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn text() -> Vec<u8> {
        (0..30_000).flat_map(|line: u32| format!("line {line}\n").into_bytes()).collect()
    }

    #[test]
    fn all_packings_are_seen_through() {
        let text = text();
        for packed in [text.clone(), gzip(&text), xz(&text), zstd(&text)] {
            let open = || Input::of_stream(Box::new(Cursor::new(packed.clone()))).unwrap();
            assert_eq!(open().head, text[..1 << 16]);
            let mut all = Vec::new();
            open().into_stream().unwrap().read_to_end(&mut all).unwrap();
            assert!(all == text);
            let mut all = Vec::new();
            open().into_file().unwrap().read_to_end(&mut all).unwrap();
            assert!(all == text);
        }
    }

    #[test]
    fn parts_that_were_packed_one_by_one_are_one() {
        let both = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(Input::of_stream(Box::new(Cursor::new(both))).unwrap().head, b"one\ntwo\n");
        let both = [zstd(b"one\n"), zstd(b"two\n")].concat();
        assert_eq!(Input::of_stream(Box::new(Cursor::new(both))).unwrap().head, b"one\ntwo\n");
        let both = [xz(b"one\n"), xz(b"two\n")].concat();
        assert_eq!(Input::of_stream(Box::new(Cursor::new(both))).unwrap().head, b"one\ntwo\n");
    }

    #[test]
    fn what_is_cut_is_an_error_after_what_is_there() {
        let text = text();
        for packed in [gzip(&text), xz(&text), zstd(&text)] {
            let cut = Cursor::new(packed[..packed.len() * 3 / 4].to_vec());
            let mut all = Vec::new();
            let input = Input::of_stream(Box::new(cut)).unwrap();
            assert!(input.into_stream().unwrap().read_to_end(&mut all).is_err());
            assert!(text.starts_with(&all) && !all.is_empty());
        }
    }
}
