//! The bytes of a recording: the header that a file begins with, and those of its frames.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// What a file begins with. Its first byte is in no text, and its last tells what was sent as text.
pub const MAGIC: [u8; 8] = *b"\x89EPTREC\n";
/// What each frame begins with.
pub const MARKER: [u8; 4] = *b"\xf5EPF";
/// The version that is written.
pub const VERSION: Version = Version { major: 1, minor: 0 };

/// Bytes of a file's header that are the same in every version; JSON follows.
pub const FIXED: usize = 20;
/// The longest JSON of a header.
const MOST_HEADER: usize = 64 << 10;
/// Bytes of a frame's header.
pub const FRAME: usize = 64;
/// The most bytes of a frame, stored and as text.
pub const MOST_FRAME: usize = 4 << 20;

/// Version of the format. A reader refuses another `major`; what a higher `minor` has added can be
/// passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// What is there has another meaning.
    pub major: u16,
    /// Something is there that was not before.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the header of a file tells. Each part of a recording has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Of the format.
    #[serde(skip)]
    pub version: Version,
    /// Who wrote it, such as `ept-trace 0.1.0`.
    pub tool: String,
    /// `uname -r`.
    pub release: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Random, and the same in all parts of a recording.
    pub session: String,
    /// When the recording was begun, by `CLOCK_REALTIME` in nanoseconds,
    pub realtime_ns: u64,
    /// and at the same moment by `CLOCK_MONOTONIC`, which is the clock of the observations.
    pub monotonic_ns: u64,
    /// Number of the part, from 1.
    pub part: u32,
    /// The highest number that a VM has in the parts before.
    pub newest_vm: u32,
}

/// Why bytes are no header that can be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHeader {
    /// They are not as they were written.
    #[error("the header of the file is damaged")]
    Damaged,
    /// They were written by a later program.
    #[error("a recording of format {0}, and this program reads {VERSION}: use a newer ept-trace")]
    Newer(Version),
}

impl From<NoHeader> for io::Error {
    fn from(why: NoHeader) -> Self {
        let kind = match why {
            NoHeader::Damaged => io::ErrorKind::InvalidData,
            NoHeader::Newer(_) => io::ErrorKind::Unsupported,
        };
        Self::new(kind, why)
    }
}

impl Header {
    /// Reads the header of a file, and nothing after it.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before, `InvalidData` if it is no header or a damaged one,
    /// `Unsupported` if a later program wrote it; else what `input` says.
    pub fn read(input: &mut dyn Read) -> io::Result<Self> {
        let mut bytes = vec![0; FIXED];
        input.read_exact(&mut bytes)?;
        let length = Self::length(&bytes).ok_or(NoHeader::Damaged)?;
        bytes.resize(length, 0);
        input.read_exact(&mut bytes[FIXED..])?;
        Ok(Self::decode(&bytes)?)
    }

    /// Bytes of the header that begins with these, if it is one.
    pub(super) fn length(fixed: &[u8]) -> Option<usize> {
        let length = u32_at(fixed, 16)? as usize;
        (fixed.starts_with(&MAGIC) && length <= MOST_HEADER).then_some(FIXED + length)
    }

    /// Takes apart all bytes of a header.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let (sum, rest) = checked(bytes, 8).ok_or(NoHeader::Damaged)?;
        let number = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (Some(major), Some(minor), true) = (number(12), number(14), sum == crc(rest)) else {
            return Err(NoHeader::Damaged);
        };
        let version = Version { major, minor };
        if major > VERSION.major {
            return Err(NoHeader::Newer(version));
        }
        let json = bytes.get(FIXED..).unwrap_or_default();
        let header: Self = serde_json::from_slice(json).map_err(|_| NoHeader::Damaged)?;
        Ok(Self { version, ..header })
    }

    /// All bytes of the header; an error if there are more than there may be.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MOST_HEADER);
        let length = length.ok_or_else(|| io::Error::other("the header is too long"))?;
        let mut rest = Vec::with_capacity(FIXED + json.len());
        rest.extend(VERSION.major.to_le_bytes());
        rest.extend(VERSION.minor.to_le_bytes());
        rest.extend(length.to_le_bytes());
        rest.extend(json);
        Ok([&MAGIC[..], &crc(&rest).to_le_bytes(), &rest].concat())
    }

    /// By what the frames of this recording are told from those of others.
    pub(super) fn tag(&self) -> u32 {
        crc(self.session.as_bytes())
    }
}

/// What is in a frame. What is of no kind named here was added later, and is passed over.
pub mod kind {
    /// Observations.
    pub const OBSERVATIONS: u32 = 1;
    /// Observations of the parts before that must be known to judge those that follow.
    pub const STATE: u32 = 2;
    /// Nothing: the part ends here, and the recording goes on in the next.
    pub const CONTINUED: u32 = 3;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What is in it: a [`kind`].
    pub kind: u32,
    /// Observations in it.
    pub count: u32,
    /// Bytes that follow the header.
    pub stored: u32,
    /// Bytes when these are decompressed.
    pub text: u32,
    /// Checksum of what follows the header.
    pub crc: u32,
    /// [`Header::tag`].
    pub tag: u32,
    /// Observations of the recording that come before it, those of all parts.
    pub before: u64,
    /// The least time in it, in nanoseconds.
    pub earliest_ns: u64,
    /// The greatest.
    pub latest_ns: u64,
    /// The highest number that a VM has in the observations before it.
    pub newest_vm: u32,
}

impl Frame {
    /// Takes apart a frame's header; nothing if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME).filter(|bytes| bytes.starts_with(&MARKER))?;
        let (sum, rest) = checked(bytes, 4)?;
        if sum != crc(rest) {
            return None;
        }
        let long =
            |at| Some(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32);
        let frame = Self {
            kind: u32_at(bytes, 8)?,
            count: u32_at(bytes, 12)?,
            stored: u32_at(bytes, 16)?,
            text: u32_at(bytes, 20)?,
            crc: u32_at(bytes, 24)?,
            tag: u32_at(bytes, 28)?,
            before: long(32)?,
            earliest_ns: long(40)?,
            latest_ns: long(48)?,
            newest_vm: u32_at(bytes, 56)?,
        };
        let is_bounded = |bytes: u32| bytes as usize <= MOST_FRAME;
        (is_bounded(frame.stored) && is_bounded(frame.text)).then_some(frame)
    }

    /// The header's bytes. The last four have no meaning yet.
    pub fn encode(&self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        let words = [self.kind, self.count, self.stored, self.text, self.crc, self.tag];
        for (word, at) in words.into_iter().zip((8..).step_by(4)) {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        for (long, at) in
            [self.before, self.earliest_ns, self.latest_ns].into_iter().zip([32, 40, 48])
        {
            bytes[at..at + 8].copy_from_slice(&long.to_le_bytes());
        }
        bytes[56..60].copy_from_slice(&self.newest_vm.to_le_bytes());
        let sum = crc(&bytes[8..]);
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Whether a file that begins so is a recording: with its magic number, or, where that is damaged,
/// with a whole frame's header in what is given.
pub fn recognise(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) || head.windows(FRAME).any(|bytes| Frame::decode(bytes).is_some())
}

/// CRC-32 as zlib, PNG and Ethernet have it.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The checksum at `at`, and what it is of: all that follows it.
fn checked(bytes: &[u8], at: usize) -> Option<(u32, &[u8])> {
    Some((u32_at(bytes, at)?, bytes.get(at + 4..)?))
}

/// The little-endian word at `at`.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
