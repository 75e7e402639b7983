//! Version 6: one part follows the other, and what an instance has is found by its option.

use std::io::{self, Cursor, Read, Seek};
use std::ops::Range;

use super::compression::Compression;
use super::contents::{Buffer, Contents, Cpu, MOST_CPUS, TEXT};
use super::options::{MOST_OPTIONS, Options, id};
use crate::source::trace::tracing_data::{Events, Input, PageLayout};

/// The name of an instance.
const MOST_NAME: usize = 4096;
/// Of all instances.
const MOST_TABLES: usize = 1 << 20;
/// The text of `trace_clock`.
const MOST_CLOCK: u64 = 4096;

/// What a part is, in 10 bytes.
const OPTIONS: &[u8] = b"options  \0";
const LATENCY: &[u8] = b"latency  \0";
const FLYRECORD: &[u8] = b"flyrecord\0";

/// Reads all that comes after the preamble and before the pages.
pub fn read<R: Read + Seek>(input: &mut Input<R>) -> io::Result<Contents> {
    let layout = PageLayout::read(input)?;
    let mut events = Events::default();
    events.read_ftrace(input)?;
    events.read_systems(input)?;
    // kallsyms, printk_formats and saved_cmdlines of tracefs.
    for _ in 0..2 {
        let size = input.u32()?;
        input.skip(u64::from(size))?;
    }
    let size = input.u64()?;
    input.skip(size)?;

    let cpus = input.count(MOST_CPUS)?;
    let mut options = Options::default();
    let mut part: [u8; 10] = input.array()?;
    if part == OPTIONS {
        read_options(input, &mut options)?;
        part = input.array()?;
    }
    let cpus = options.cpus.unwrap_or(cpus);
    let instances = std::mem::take(&mut options.buffers);
    if instances.len().saturating_mul(cpus as usize) > MOST_TABLES {
        return Err(input.bad("more tables of CPUs than any file has"));
    }
    let mut tables = Vec::new();
    let mut buffers = vec![read_table(input, &part, String::new(), cpus, layout.size)?];
    let begin = input.offset();
    // Where there is a clock, it comes once more; it was not always good in the option.
    if let Some(text) = read_clock(input, &options) {
        options.choose_clock(&text);
    }
    for option in instances {
        let mut option = Input::new(Cursor::new(&option[..]))?;
        let at = option.u64()?;
        let name = option.string(MOST_NAME)?;
        input.go_to(at)?;
        let part: [u8; 10] = input.array()?;
        buffers.push(read_table(input, &part, name, cpus, layout.size)?);
        tables.push(at..input.offset());
    }
    let skipped = options.skipped.clone();
    Ok(Contents {
        layout,
        compression: Compression::None,
        events,
        options,
        buffers,
        areas: vec![Range { start: begin, end: u64::MAX }],
        tables,
        skipped,
        is_torn: false,
    })
}

fn read_options<R: Read + Seek>(input: &mut Input<R>, options: &mut Options) -> io::Result<()> {
    loop {
        let id = input.u16()?;
        if id == id::DONE {
            return Ok(());
        }
        let size = input.u32()?;
        let data = input.bytes(u64::from(size), MOST_OPTIONS)?;
        options.take(id, data)?;
    }
}

/// Where the pages of an instance's CPUs are.
fn read_table<R: Read + Seek>(
    input: &mut Input<R>,
    part: &[u8],
    name: String,
    cpus: u32,
    page_size: usize,
) -> io::Result<Buffer> {
    match part {
        FLYRECORD => {}
        LATENCY => return Err(io::Error::new(io::ErrorKind::Unsupported, TEXT)),
        _ => return Err(input.bad("no table of CPUs before this")),
    }
    let mut table = Vec::new();
    for number in 0..cpus {
        table.push(Cpu { number, offset: input.u64()?, size: input.u64()? });
    }
    Ok(Buffer { name, clock: None, page_size, is_compressed: false, cpus: table })
}

fn read_clock<R: Read + Seek>(input: &mut Input<R>, options: &Options) -> Option<String> {
    options.clock_name.as_ref()?;
    input.sized_text(MOST_CLOCK).ok()
}
