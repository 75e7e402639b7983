//! A trace.dat of several GiB: the pages of a recording again and again, each time later.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

/// Of the kernel's ring buffer.
const PAGE: usize = 4096;

/// Writes at least so many bytes of pages to `to`; how many times those of `from` are in it. That one
/// is of version 7, not compressed, and of one CPU.
pub fn write(from: &Path, to: &Path, bytes: usize) -> Result<usize> {
    let mut file = fs::read(from)?;
    let (pair, place, size) = place_of_pages(&file)
        .with_context(|| format!("{}: where are its pages?", from.display()))?;
    let times = bytes.div_ceil(size);
    let begin = file.len().next_multiple_of(PAGE);
    let mut pages = file[place..place + size].to_vec();
    file.resize(begin, 0);
    file[pair..pair + 8].copy_from_slice(&(begin as u64).to_le_bytes());
    file[pair + 8..pair + 16].copy_from_slice(&((size * times) as u64).to_le_bytes());

    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(&file)?;
    // A page begins with its time, in nanoseconds; the events in it count from there.
    let time = |page: &[u8]| Some(u64::from_le_bytes(*page.first_chunk()?));
    let first = time(&pages).context("no page")?;
    let last = pages.chunks(PAGE).filter_map(time).max().context("no page")?;
    let later = last - first + 1_000_000_000;
    for _ in 0..times {
        out.write_all(&pages)?;
        for page in pages.chunks_mut(PAGE) {
            let moved = time(page).unwrap_or_default() + later;
            page[..8].copy_from_slice(&moved.to_le_bytes());
        }
    }
    out.flush()?;
    Ok(times)
}

/// Where the options say where the pages are, which are last but for the options; and what they say:
/// their place, and their size.
fn place_of_pages(file: &[u8]) -> Option<(usize, usize, usize)> {
    let number = |at: usize| {
        let bytes = file.get(at..)?.first_chunk()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    };
    let is_of_pages = |place: usize, size: usize, at: usize| {
        size > 0 && place.is_multiple_of(PAGE) && size.is_multiple_of(PAGE) && place + size <= at
    };
    (0..file.len().saturating_sub(15)).rev().take(PAGE).find_map(|at| {
        let (place, size) = (number(at)?, number(at + 8)?);
        (place < file.len() && size < file.len() && is_of_pages(place, size, at))
            .then_some((at, place, size))
    })
}
