//! A trace.dat of several GiB: the pages of a recording again and again, each time later.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

/// Of the kernel's ring buffer.
const PAGE: usize = 4096;

/// Writes at least so many bytes of pages to `to`; how many times those of `from` are in it. That one
/// is of version 7, not compressed, and of one CPU: its pages are the last but for options.
pub fn write(from: &Path, to: &Path, bytes: usize) -> Result<usize> {
    let mut file = fs::read(from)?;
    let (pair, pages) = place_of_pages(&file)
        .with_context(|| format!("{}: where its pages are cannot be told", from.display()))?;
    let size = pages.len();
    let times = bytes.div_ceil(size);
    let more = (size * (times - 1)) as u64;
    // What tells of them: the option, the size of their section, and the way to the options behind.
    let end = pages.end as u64;
    let tells = |at: &usize| {
        number(&file, *at)
            .is_some_and(|told| told == end || told > 0 && told + *at as u64 + 8 == end)
    };
    let mut told: Vec<_> = (0..pages.start - 7).filter(tells).collect();
    told.push(pair + 8);
    for at in told {
        let longer = number(&file, at).unwrap_or_default() + more;
        file[at..at + 8].copy_from_slice(&longer.to_le_bytes());
    }

    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(&file[..pages.start])?;
    // A page begins with its time, in nanoseconds; the events in it count from there.
    let times_of = |page: &[u8]| number(page, 0);
    let first = number(&file, pages.start).context("no page")?;
    let last = file[pages.clone()].chunks(PAGE).filter_map(times_of).max().context("no page")?;
    let later = last - first + 1_000_000_000;
    for _ in 0..times {
        out.write_all(&file[pages.clone()])?;
        for page in file[pages.clone()].chunks_mut(PAGE) {
            let moved = number(page, 0).unwrap_or_default() + later;
            page[..8].copy_from_slice(&moved.to_le_bytes());
        }
    }
    out.write_all(&file[pages.end..])?;
    out.flush()?;
    Ok(times)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where the options behind the pages say where these are; and where they are.
fn place_of_pages(file: &[u8]) -> Option<(usize, Range<usize>)> {
    let number = |at| usize::try_from(number(file, at)?).ok();
    (0..file.len()).rev().take(PAGE).find_map(|at| {
        let (begin, size) = (number(at)?, number(at + 8)?);
        let end = begin.checked_add(size)?;
        let is_whole = begin.is_multiple_of(PAGE) && size.is_multiple_of(PAGE);
        (is_whole && begin > 0 && size > 0 && end <= at).then_some((at, begin..end))
    })
}
