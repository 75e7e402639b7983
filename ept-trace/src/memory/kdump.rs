//! kdump-compressed dumps: what makedumpfile writes, and QEMU's `dump-guest-memory -z`.
//!
//! A header, a sub-header, two bitmaps of pages (those that the machine has, and those that are
//! in the dump), a descriptor for each page of the second, and the pages. The page of a frame is
//! found by how many pages of the second bitmap come before it.

use super::bytes::{Bytes, head, read_vec, u32_at, u64_at};
use super::error::Trouble;
use super::page;

pub const MAGIC: &[u8] = b"KDUMP   ";

/// The format counts in blocks of a page.
const PAGE: usize = 4096;
const BLOCK: u64 = PAGE as u64;
/// As much of `disk_dump_header` as has a meaning on x86-64.
const HEADER: usize = 464;
/// As much of `kdump_sub_header`; all of it since version 6 of the format.
const SUB_HEADER: usize = 104;
/// `page_desc`: offset, size, flags, and the page's flags.
const DESCRIPTOR: usize = 24;
/// `DUMP_DH_COMPRESSED_INCOMPLETE` in the status, and in a page's flags.
const INCOMPLETE: u32 = 8;
/// The part of a bitmap whose bits are counted at once.
const STRIDE: u64 = 4096;
/// For 128 TB of memory, more than any machine has.
const MOST_BITMAP: u64 = 4 << 30;

/// Where the pages of a dump are.
#[derive(Debug)]
pub struct Kdump {
    /// Offset in the file of the bitmap of what is in the dump; in bytes, as its length.
    bitmap: u64,
    bitmap_length: u64,
    descriptors: u64,
    /// For each stride of the bitmap, how many pages come before it.
    ranks: Vec<u64>,
    dump_level: u32,
    is_incomplete: bool,
}

impl Kdump {
    /// Reads the headers, and counts the pages.
    pub fn new(bytes: &dyn Bytes) -> Result<Self, Trouble> {
        let header = head::<HEADER>(bytes)?;
        let block_size = u32_at(&header, 428);
        if u64::from(block_size) != BLOCK {
            let what = format!(
                "a block size of {block_size}: the dump is damaged, or not of an x86-64 machine"
            );
            return Err(Trouble::bad(428, what));
        }
        let mut sub_header = [0; SUB_HEADER];
        bytes.read(&mut sub_header, BLOCK)?;
        if u32_at(&sub_header, 12) != 0 {
            return Err(Trouble::Refused(
                "one part of a dump that was split: join the parts with `makedumpfile \
                 --reassemble PART... DUMP`"
                    .to_owned(),
            ));
        }
        // Version 6 has the number of frames as 64 bits.
        let frames = match u32_at(&header, 8) {
            6.. => u64_at(&sub_header, 96),
            _ => u64::from(u32_at(&header, 440)),
        };
        let blocks = u64::from(u32_at(&header, 436)) * BLOCK;
        let bitmaps = (1 + u64::from(u32_at(&header, 432))) * BLOCK;
        let bitmap_length = frames.div_ceil(8);
        if bitmap_length > MOST_BITMAP || bitmap_length > blocks {
            let what = format!("bitmaps of {blocks} bytes for {frames} pages: the dump is damaged");
            return Err(Trouble::bad(436, what));
        }
        // A dump that nothing was left out of has but one bitmap.
        let is_partial = blocks >= bitmap_length.next_multiple_of(BLOCK) * 2;
        let mut kdump = Self {
            bitmap: bitmaps + if is_partial { blocks / 2 } else { 0 },
            bitmap_length,
            descriptors: bitmaps + blocks,
            ranks: Vec::new(),
            dump_level: u32_at(&sub_header, 8),
            is_incomplete: u32_at(&header, 424) & INCOMPLETE != 0,
        };
        kdump.count_pages(bytes)?;
        Ok(kdump)
    }

    fn count_pages(&mut self, bytes: &dyn Bytes) -> Result<(), Trouble> {
        let mut before = 0;
        let mut at = 0;
        while at < self.bitmap_length {
            self.ranks.push(before);
            before += ones(&self.stride(bytes, at)?);
            at += STRIDE;
        }
        Ok(())
    }

    /// The stride of the bitmap that has byte `at`; shorter at the bitmap's end.
    fn stride(&self, bytes: &dyn Bytes, at: u64) -> Result<Vec<u8>, Trouble> {
        let start = at & !(STRIDE - 1);
        let length = (self.bitmap_length - start).min(STRIDE);
        read_vec(bytes, length, self.bitmap + start)
    }

    /// The block of memory that has address `at`, and its start; nothing if it is not in the dump.
    pub fn block(&self, bytes: &dyn Bytes, at: u64) -> Result<Option<(u64, Vec<u8>)>, Trouble> {
        let frame = at / BLOCK;
        let start = frame * BLOCK;
        let Some(rank) = self.rank(bytes, frame)? else { return Ok(None) };
        let descriptor = self.descriptors + rank * DESCRIPTOR as u64;
        let mut desc = [0; DESCRIPTOR];
        bytes.read(&mut desc, descriptor)?;
        let (offset, size, flags) = (u64_at(&desc, 0), u32_at(&desc, 8), u32_at(&desc, 12));
        // What makedumpfile had no room for; crash reads it so.
        if offset == 0 || flags & INCOMPLETE != 0 {
            return Ok(None);
        }
        if u64::from(size) > BLOCK {
            let what = format!("a page of {size} bytes: the dump is damaged");
            return Err(Trouble::bad(bytes.offset_in_file(descriptor), what));
        }
        let stored = read_vec(bytes, u64::from(size), offset)?;
        let mut block = vec![0; PAGE];
        page::decompress(flags, &stored, &mut block).map_err(|what| {
            let what = format!("the page at {start:#x}: {what}; copy the dump again");
            Trouble::bad(bytes.offset_in_file(offset), what)
        })?;
        Ok(Some((start, block)))
    }

    /// How many pages of the dump come before this one, if it is there.
    fn rank(&self, bytes: &dyn Bytes, frame: u64) -> Result<Option<u64>, Trouble> {
        let byte = frame / 8;
        if byte >= self.bitmap_length {
            return Ok(None);
        }
        let stride = self.stride(bytes, byte)?;
        let within = (byte % STRIDE) as usize;
        let bit = 1 << (frame % 8);
        if stride[within] & bit == 0 {
            return Ok(None);
        }
        let before = ones(&stride[..within]) + u64::from((stride[within] & (bit - 1)).count_ones());
        let strides = usize::try_from(byte / STRIDE).ok();
        Ok(strides.and_then(|strides| self.ranks.get(strides)).map(|rank| rank + before))
    }

    /// Why a page may be missing, if the headers tell.
    pub fn why_missing(&self) -> Option<String> {
        if self.is_incomplete {
            return Some("it is incomplete: makedumpfile had no room for all of it".to_owned());
        }
        let level = self.dump_level;
        (level != 0).then(|| {
            let zeros = if level & 1 == 0 { "" } else { ", pages of zeros among them" };
            format!("makedumpfile left pages out of it (-d {level}){zeros}")
        })
    }
}

fn ones(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}
