//! The pages of a kdump-compressed dump, each compressed by itself.

use super::lzo;

/// `DUMP_DH_COMPRESSED_*` of makedumpfile, in `page_desc.flags`.
const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;

/// Makes a page of what is stored, by the flags of its descriptor.
///
/// # Errors
///
/// Says how it cannot be decompressed to just as many bytes as the page has.
pub fn decompress(flags: u32, stored: &[u8], page: &mut [u8]) -> Result<(), String> {
    let (name, length) = match flags & (ZLIB | LZO | SNAPPY | ZSTD) {
        0 => ("not compressed", store(stored, page)),
        ZLIB => ("zlib", zlib(stored, page)),
        LZO => ("LZO", lzo::decompress(stored, page)),
        SNAPPY => ("snappy", snap::raw::Decoder::new().decompress(stored, page).ok()),
        ZSTD => ("zstd", zstd(stored, page)),
        _ => return Err(format!("compressed in no known way (flags {flags:#x})")),
    };
    match length {
        Some(length) if length == page.len() => Ok(()),
        Some(length) => Err(format!("{length} bytes ({name}), and not {}", page.len())),
        None => Err(format!("damaged ({name})")),
    }
}

fn store(stored: &[u8], page: &mut [u8]) -> Option<usize> {
    page.get_mut(..stored.len())?.copy_from_slice(stored);
    Some(stored.len())
}

fn zlib(stored: &[u8], page: &mut [u8]) -> Option<usize> {
    use flate2::{Decompress, FlushDecompress, Status};

    let mut inflate = Decompress::new(true);
    let status = inflate.decompress(stored, page, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd).then_some(usize::try_from(inflate.total_out()).ok()?)
}

fn zstd(stored: &[u8], page: &mut [u8]) -> Option<usize> {
    // Straight into the page: no window is allocated, whatever a damaged frame asks for.
    zstd::bulk::decompress_to_buffer(stored, page).ok()
}
