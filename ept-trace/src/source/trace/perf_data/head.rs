//! The head of a file: where its attributes, its records and its formats are.
//!
//! `tools/perf/Documentation/perf.data-file-format.txt` of Linux specifies it. What perf knows only
//! when it ends follows the records, the formats of the events among it.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use super::attrs::{Attr, Attrs, MOST_ATTRS};
use super::bytes::u64_at;
use super::invalid;

/// `PERF_MAGIC2`, the same of a big-endian machine, and that of version 1.
const MAGIC: &[u8] = b"PERFILE2";
const SWAPPED_MAGIC: &[u8] = b"2ELIFREP";
const OLD_MAGIC: &[u8] = b"PERFFILE";
/// Sizes of `perf_file_header` and `perf_pipe_file_header`.
const FILE_HEADER: u64 = 104;
const PIPE_HEADER: u64 = 16;

/// `HEADER_TRACING_DATA` and `HEADER_DIR_FORMAT`: bits that tell which sections there are.
const TRACING_DATA: u32 = 1;
const DIR_FORMAT: u32 = 24;
/// `perf_file_section`.
const SECTION: usize = 16;
/// A `perf_event_attr`, which grows with the kernels, has 136 bytes today.
const MOST_ATTR: usize = 4096;
/// The formats of all of them have some megabytes.
pub const MOST_FORMATS: u64 = 64 << 20;

const UNFINISHED: &str = "perf was killed before it wrote the formats of the events, and without \
    them no event can be read: end `perf record` with Ctrl-C, or record with `-o - > FILE`, which \
    has them first";
const IN_A_DIRECTORY: &str = "the events are in other files of its directory, which are not read: \
    record without `--threads`";
pub const NO_FORMATS: &str = "it has the format of no tracepoint: record with `-e 'kvm:*' -e \
    'kvmmmu:*'`";
const CUT: &str = "the formats of the events, which follow them, are cut off or damaged, and \
    without them no event can be read: copy the file again";

/// How perf wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `-o FILE`: some of it is found only by seeking.
    File,
    /// `-o -`: all of it comes in the order in which it is needed.
    Pipe,
}

/// Whether this is the begin of a perf.data, and of which kind; 16 bytes are enough.
///
/// # Errors
///
/// It is one that cannot be read; why.
pub fn recognise(head: &[u8]) -> Option<Result<Kind, String>> {
    let refused = |why: &str| Some(Err(format!("a perf.data {why}")));
    if head.starts_with(SWAPPED_MAGIC) {
        return refused("of a big-endian machine, which has no KVM of x86");
    }
    if head.starts_with(OLD_MAGIC) {
        return refused("of version 1, which only the oldest perf wrote");
    }
    head.starts_with(MAGIC).then(|| match u64_at(head, MAGIC.len()) {
        Some(FILE_HEADER) => Ok(Kind::File),
        Some(PIPE_HEADER) => Ok(Kind::Pipe),
        Some(size) => Err(format!("a perf.data with a header of {size} bytes, which is unknown")),
        None => Err("a perf.data that ends in its header".to_owned()),
    })
}

/// Passes over the header of a pipe.
pub fn read_pipe_header(input: &mut dyn Read) -> io::Result<u64> {
    let mut header = Vec::new();
    input.take(PIPE_HEADER).read_to_end(&mut header)?;
    expect(&header, Kind::Pipe)?;
    Ok(PIPE_HEADER)
}

fn expect(header: &[u8], kind: Kind) -> io::Result<()> {
    match recognise(header) {
        Some(Ok(found)) if found == kind => Ok(()),
        Some(Err(why)) => Err(invalid(why)),
        _ => Err(invalid(format!("not a perf.data of the kind {kind:?}"))),
    }
}

/// What the head of a file tells.
pub struct Head {
    pub attrs: Attrs,
    /// Where the records are.
    pub records: Section,
    /// What perf saved of tracefs.
    pub formats: Vec<u8>,
}

impl Head {
    /// Reads it, with the sections that it names.
    pub fn read(file: &File) -> io::Result<Self> {
        let header = Section { offset: 0, size: FILE_HEADER }.read(file, FILE_HEADER)?;
        expect(&header, Kind::File)?;
        let word = |at| u64_at(&header, at).ok_or_else(|| invalid(CUT.to_owned()));
        let section = |at| Ok::<_, io::Error>(Section { offset: word(at)?, size: word(at + 8)? });
        let (attrs, records, features) = (section(24)?, section(40)?, word(72)?);
        // perf tells the size when it ends, and writes what follows the records then.
        if records.size == 0 {
            return Err(invalid(UNFINISHED.to_owned()));
        }
        if features & (1 << DIR_FORMAT) != 0 {
            return Err(invalid(IN_A_DIRECTORY.to_owned()));
        }
        if features & (1 << TRACING_DATA) == 0 {
            return Err(invalid(NO_FORMATS.to_owned()));
        }
        let formats = read_formats(file, records).map_err(|err| match err.kind() {
            io::ErrorKind::InvalidData => invalid(format!("{err}: {CUT}")),
            _ => err,
        })?;
        Ok(Self { attrs: read_attrs(file, attrs, word(16)?)?, records, formats })
    }
}

/// A table of sections follows the records, one for each bit; that of the formats is the lowest.
fn read_formats(file: &File, records: Section) -> io::Result<Vec<u8>> {
    let offset = records.offset.saturating_add(records.size);
    let entry = Section { offset, size: SECTION as u64 }.read(file, SECTION as u64)?;
    Section::parse(&entry)?.read(file, MOST_FORMATS)
}

fn read_attrs(file: &File, section: Section, size: u64) -> io::Result<Attrs> {
    let damaged = || invalid(format!("offset {:#x}: damaged attributes", section.offset));
    let size = usize::try_from(size).ok().filter(|size| (SECTION..MOST_ATTR).contains(size));
    let size = size.ok_or_else(damaged)?;
    let mut attrs = Attrs::default();
    for entry in section.read(file, (size * MOST_ATTRS) as u64)?.chunks(size) {
        let (attr, ids) = entry.split_at_checked(size - SECTION).ok_or_else(damaged)?;
        let ids = Section::parse(ids)?.read(file, attrs.room_for_ids() as u64 * 8)?;
        attrs.add(Attr::parse(attr).ok_or_else(damaged)?, &ids).map_err(invalid)?;
    }
    Ok(attrs)
}

/// Part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

impl Section {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let parsed = u64_at(bytes, 0).zip(u64_at(bytes, 8));
        let (offset, size) = parsed.ok_or_else(|| invalid(CUT.to_owned()))?;
        Ok(Self { offset, size })
    }

    /// All of it, which may be so many bytes.
    fn read(self, file: &File, most: u64) -> io::Result<Vec<u8>> {
        let Self { offset, size } = self;
        if size > most {
            return Err(invalid(format!("offset {offset:#x}: a section of {size} bytes")));
        }
        let mut bytes = Vec::new();
        self.reader(file).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < size {
            return Err(invalid(format!("offset {offset:#x}: {size} bytes are not there")));
        }
        Ok(bytes)
    }

    /// Reads it from its begin; `file` stays where it is.
    pub fn reader<F: Borrow<File>>(self, file: F) -> impl Read + use<F> {
        Positioned { file, at: self.offset }.take(self.size)
    }
}

/// Reads on from an offset.
struct Positioned<F> {
    file: F,
    at: u64,
}

impl<F: Borrow<File>> Read for Positioned<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Offsets above i64::MAX are in no file, and pread refuses them.
        if i64::try_from(self.at).is_err() {
            return Ok(0);
        }
        let read = self.file.borrow().read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
