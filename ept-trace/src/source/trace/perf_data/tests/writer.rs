//! Writes perf.data as perf does, of parts of a real one.

use std::ops::Range;

use zstd::stream::raw::{Encoder, Operation as _};

use super::SVM;
use crate::source::trace::perf_data::bytes::{u32_at, u64_at};
use crate::source::trace::perf_data::kinds;
use crate::source::trace::perf_data::window::Header;

pub const END_OF_ROUND: [u8; 8] = [68, 0, 0, 0, 0, 0, 8, 0];
/// Where samples of the real one have their time and CPU.
const TIME: Range<usize> = 32..40;
const CPU: Range<usize> = 40..44;

fn number(told: Option<u64>) -> usize {
    usize::try_from(told.unwrap()).unwrap()
}

fn section(at: usize) -> Range<usize> {
    let [offset, size] = [at, at + 8].map(|at| number(u64_at(SVM, at)));
    offset..offset + size
}

/// The records of the real one.
pub fn records() -> Vec<Vec<u8>> {
    let mut rest = &SVM[section(40)];
    let mut records = Vec::new();
    while let Some(header) = Header::parse(rest) {
        let (record, after) = rest.split_at(header.size);
        records.push(record.to_vec());
        rest = after;
    }
    records
}

/// Its samples.
pub fn samples() -> Vec<Vec<u8>> {
    records().into_iter().filter(|record| u32_at(record, 0) == Some(kinds::SAMPLE)).collect()
}

/// The sample at another time.
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

/// What the real one has of tracefs.
pub fn formats() -> &'static [u8] {
    &SVM[section(section(40).end)]
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

/// The attributes of the real one, as a pipe has them.
pub fn attrs() -> Vec<u8> {
    let size = number(u64_at(SVM, 16));
    let attr = |attr: &[u8]| {
        let end = attr.as_ptr() as usize - SVM.as_ptr() as usize + size - 16;
        record(kinds::HEADER_ATTR, &[&attr[..size - 16], &SVM[section(end)]].concat())
    };
    SVM[section(24)].chunks(size).flat_map(attr).collect()
}

/// The same through a pipe.
pub fn pipe(records: &[u8]) -> Vec<u8> {
    let padding = formats().len().next_multiple_of(8) - formats().len();
    let size = u32::try_from(formats().len() + padding).unwrap();
    let mut pipe = [&b"PERFILE2"[..], &16_u64.to_le_bytes(), &attrs()].concat();
    pipe.extend(record(kinds::HEADER_TRACING_DATA, &size.to_le_bytes()));
    pipe.extend(formats());
    pipe.extend(vec![0; padding]);
    pipe.extend(records);
    pipe
}

/// What `-z` compresses.
pub struct Compressor {
    encoder: Encoder<'static>,
    /// Pieces have at most so many bytes of content.
    most: usize,
}

impl Compressor {
    pub fn new(most: usize) -> Self {
        Self { encoder: Encoder::new(1).unwrap(), most }
    }

    /// What is found in a buffer, compressed into pieces.
    pub fn compress(&mut self, mut records: &[u8]) -> Vec<Vec<u8>> {
        let mut output = vec![0; 2 * records.len() + 1024];
        let mut size = 0;
        while !records.is_empty() {
            let status = self.encoder.run_on_buffers(records, &mut output[size..]).unwrap();
            records = &records[status.bytes_read..];
            size += status.bytes_written;
        }
        let mut rest = zstd::stream::raw::OutBuffer::around(&mut output[size..]);
        assert_eq!(self.encoder.flush(&mut rest).unwrap(), 0);
        size += rest.pos();
        output[..size].chunks(self.most).map(<[u8]>::to_vec).collect()
    }
}

/// Whether it is an event of KVM: the only others in the real log are those of `sched_switch`.
pub fn is_kvm(sample: &[u8]) -> bool {
    let formats = String::from_utf8_lossy(formats());
    let (_, id) = formats.split_once("name: sched_switch\nID: ").unwrap();
    let id: u16 = id.split('\n').next().unwrap().parse().unwrap();
    sample[60..62] != id.to_le_bytes()
}
