//! How sections and chunks of version 7 are compressed.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::bulk;
use zstd::zstd_safe::DParameter;

/// By which means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Zlib,
    Zstd,
}

impl Compression {
    /// By the name that the file has.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "zlib" => Self::Zlib,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// trace-cmd compresses some pages at a time, and needs no larger window; a damaged frame may ask
/// for one. As a power of two.
const ZSTD_WINDOW: u32 = 23;

/// Decompresses one block after the other.
pub struct Decompressor {
    compression: Compression,
    zstd: bulk::Decompressor<'static>,
    zlib: Decompress,
}

impl Decompressor {
    /// # Errors
    ///
    /// If there is no memory.
    pub fn new(compression: Compression) -> io::Result<Self> {
        let mut zstd = bulk::Decompressor::new()?;
        zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
        Ok(Self { compression, zstd, zlib: Decompress::new(true) })
    }

    /// Fills `block` from what is stored.
    ///
    /// # Errors
    ///
    /// Says why it cannot be filled with just so many bytes.
    pub fn decompress(&mut self, stored: &[u8], block: &mut [u8]) -> Result<(), String> {
        let length = match self.compression {
            Compression::None => None,
            Compression::Zlib => self.inflate(stored, block),
            Compression::Zstd => self.zstd.decompress_to_buffer(stored, block).ok(),
        };
        let name = self.compression.name();
        match length {
            Some(length) if length == block.len() => Ok(()),
            Some(length) => Err(format!("{length} bytes ({name}), and not {}", block.len())),
            None => Err(format!("damaged ({name})")),
        }
    }

    fn inflate(&mut self, stored: &[u8], block: &mut [u8]) -> Option<usize> {
        self.zlib.reset(true);
        let status = self.zlib.decompress(stored, block, FlushDecompress::Finish).ok()?;
        let length = usize::try_from(self.zlib.total_out()).ok()?;
        (status == Status::StreamEnd).then_some(length)
    }
}
