//! Writes perf.data as perf does, of parts of a real one.

use std::ops::Range;

use zstd::stream::raw::{Encoder, Operation as _, OutBuffer};

use super::SVM;
use crate::source::trace::perf_data::bytes::u64_at;
use crate::source::trace::perf_data::kinds;
use crate::source::trace::perf_data::window::Header;

pub const END_OF_ROUND: [u8; 8] = [68, 0, 0, 0, 0, 0, 8, 0];
/// Where samples of the real one have their time, their CPU, and the ID of the event.
const TIME: Range<usize> = 32..40;
const CPU: Range<usize> = 40..44;
const EVENT: Range<usize> = 60..62;

fn number(told: Option<u64>) -> usize {
    usize::try_from(told.unwrap()).unwrap()
}

fn section(at: usize) -> Range<usize> {
    let [offset, size] = [at, at + 8].map(|at| number(u64_at(SVM, at)));
    offset..offset + size
}

/// The samples of the real one.
pub fn samples() -> Vec<Vec<u8>> {
    let mut rest = &SVM[section(40)];
    let mut samples = Vec::new();
    while let Some(header) = Header::parse(rest) {
        let (record, after) = rest.split_at(header.size);
        if header.kind == kinds::SAMPLE {
            samples.push(record.to_vec());
        }
        rest = after;
    }
    samples
}

/// Those of an event.
pub fn samples_of(event: &str) -> Vec<Vec<u8>> {
    let id = id_of(event).to_le_bytes();
    samples().into_iter().filter(|sample| sample[EVENT] == id).collect()
}

/// The number of an event.
pub fn id_of(event: &str) -> u16 {
    let format = String::from_utf8_lossy(format_of(event));
    let (_, id) = format.split_once("ID: ").unwrap();
    id.lines().next().unwrap().parse().unwrap()
}

/// The sample at another time, on another CPU.
pub fn at(mut sample: Vec<u8>, time: u64, cpu: u32) -> Vec<u8> {
    sample[TIME].copy_from_slice(&time.to_le_bytes());
    sample[CPU].copy_from_slice(&cpu.to_le_bytes());
    sample
}

/// A record.
pub fn record(kind: u32, content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(8 + content.len()).unwrap();
    [&kind.to_le_bytes()[..], &[0, 0], &size.to_le_bytes(), content].concat()
}

/// What ends each record of the real one that is no sample: thread, time, CPU, and ID.
pub fn trailer(time: u64, cpu: u32) -> Vec<u8> {
    let words = [0x67_0000_0067, time, u64::from(cpu), 11];
    words.map(u64::to_le_bytes).concat()
}

/// What the real one has of tracefs.
pub fn formats() -> &'static [u8] {
    &SVM[section(section(40).end)]
}

/// The format of an event, with its size before it.
fn format_of(event: &str) -> &'static [u8] {
    let name = format!("name: {event}\n");
    let begin = formats().windows(name.len()).position(|text| text == name.as_bytes()).unwrap();
    &formats()[begin - 8..begin + number(u64_at(formats(), begin - 8))]
}

/// The formats of two events, and what comes before.
pub fn two_formats() -> Vec<u8> {
    let page = 20 + b"header_page\0".len();
    let event = page + 8 + number(u64_at(formats(), page)) + b"header_event\0".len();
    let end = event + 8 + number(u64_at(formats(), event));
    let count = u32::to_le_bytes;
    // None of ftrace's own, and two systems.
    let mut two = [&formats()[..end], &count(0), &count(2)].concat();
    for (system, event) in [("kvm", "kvm_entry"), ("kvmmmu", "kvm_tdp_mmu_spte_changed")] {
        two.extend([system.as_bytes(), b"\0", &count(1), format_of(event)].concat());
    }
    two
}

/// The attributes of the real one.
pub fn attrs() -> Vec<Attr> {
    let size = number(u64_at(SVM, 16));
    let attr = |at: usize| Attr {
        attr: SVM[at..at + size - 16].to_vec(),
        ids: SVM[section(at + size - 16)].to_vec(),
    };
    section(24).step_by(size).map(attr).collect()
}

/// An attribute, and its IDs.
#[derive(Clone)]
pub struct Attr {
    pub attr: Vec<u8>,
    pub ids: Vec<u8>,
}

impl Attr {
    /// Puts a number at one of its offsets.
    pub fn with(mut self, at: usize, number: u64) -> Self {
        self.attr[at..at + 8].copy_from_slice(&number.to_le_bytes());
        self
    }

    pub fn record(&self) -> Vec<u8> {
        record(kinds::HEADER_ATTR, &[&self.attr[..], &self.ids].concat())
    }
}

/// A file with these records.
pub fn file(records: &[u8]) -> Vec<u8> {
    let begin = section(40).start;
    let end = begin + records.len();
    let mut file = SVM[..begin].to_vec();
    file[48..56].copy_from_slice(&(records.len() as u64).to_le_bytes());
    // Of what follows the records, only the formats.
    file[72..80].copy_from_slice(&2_u64.to_le_bytes());
    file.extend(records);
    file.extend((end as u64 + 16).to_le_bytes());
    file.extend((formats().len() as u64).to_le_bytes());
    file.extend(formats());
    file
}

/// What came through a pipe.
pub fn pipe_of(attrs: &[Attr], formats: &[u8], records: &[u8]) -> Vec<u8> {
    let padding = formats.len().next_multiple_of(8) - formats.len();
    let size = u32::try_from(formats.len() + padding).unwrap();
    let mut pipe = [&b"PERFILE2"[..], &16_u64.to_le_bytes()].concat();
    pipe.extend(attrs.iter().flat_map(Attr::record));
    pipe.extend(record(kinds::HEADER_TRACING_DATA, &size.to_le_bytes()));
    pipe.extend([formats, &vec![0; padding], records].concat());
    pipe
}

/// The same, with the attributes and the formats of the real one.
pub fn pipe(records: &[u8]) -> Vec<u8> {
    pipe_of(&attrs(), formats(), records)
}

/// What `-z` compresses.
pub struct Compressor(Encoder<'static>);

impl Compressor {
    pub fn new() -> Self {
        Self(Encoder::new(1).unwrap())
    }

    /// What was found in a buffer, compressed, as the next part of the stream.
    pub fn compress(&mut self, mut records: &[u8]) -> Vec<u8> {
        let mut output = vec![0; 2 * records.len() + 1024];
        let mut size = 0;
        while !records.is_empty() {
            let status = self.0.run_on_buffers(records, &mut output[size..]).unwrap();
            records = &records[status.bytes_read..];
            size += status.bytes_written;
        }
        let mut rest = OutBuffer::around(&mut output[size..]);
        assert_eq!(self.0.flush(&mut rest).unwrap(), 0);
        size += rest.pos();
        output.truncate(size);
        output
    }
}

/// Pieces of at most so many bytes, each with the size of its content.
pub fn sized_pieces(content: &[u8], most: usize) -> Vec<u8> {
    let piece = |content: &[u8]| {
        let mut piece = (content.len() as u64).to_le_bytes().to_vec();
        piece.extend(content);
        piece.resize(piece.len().next_multiple_of(8), 0);
        record(kinds::COMPRESSED2, &piece)
    };
    content.chunks(most).flat_map(piece).collect()
}

/// Pieces as perf of Linux 6.16 writes them: the first has the sizes of all, of which 16 bits are
/// kept, the others have no size of their content, and none is padded.
pub fn pieces_as_one(content: &[u8]) -> Vec<u8> {
    let mut pieces = Vec::new();
    for content in content.chunks(0xffff - 16) {
        let size = u16::try_from(16 + content.len()).unwrap();
        pieces.extend(kinds::COMPRESSED2.to_le_bytes());
        pieces.extend([&[0, 0], &size.to_le_bytes()[..], &[0xa5; 8], content].concat());
    }
    let told = pieces.len().next_multiple_of(8) & 0xffff;
    pieces[6..8].copy_from_slice(&u16::try_from(told).unwrap().to_le_bytes());
    let content = pieces.len() as u64 - 16;
    pieces[8..16].copy_from_slice(&content.to_le_bytes());
    pieces
}
