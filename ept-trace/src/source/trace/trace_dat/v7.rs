//! Version 7: sections, and options that say where they are.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Seek};
use std::ops::Range;

use super::compression::{Compression, Decompressor};
use super::contents::{Buffer, Contents, Cpu, MOST_CPUS, TEXT};
use super::options::{Options, id};
use crate::source::trace::tracing_data::{Events, Input, PageLayout};

/// Names of algorithms, their versions, instances and clocks.
const MOST_NAME: usize = 4096;
/// The formats of all events of a kernel are a third of this.
const MOST_SECTION: u64 = 32 << 20;
/// trace-cmd writes two or three.
const MOST_OPTION_SECTIONS: usize = 64;

/// A flag of a section.
const COMPRESSED: u16 = 1;

/// Reads all that comes after the preamble and before the pages.
pub fn read<R: Read + Seek>(input: &mut Input<R>) -> io::Result<Contents> {
    let name = input.string(MOST_NAME)?;
    let _version = input.string(MOST_NAME)?;
    let compression = Compression::named(&name)
        .ok_or_else(|| input.bad(&format!("compressed by {name:?}, which is not known")))?;
    let at = input.u64()?;
    if at == 0 {
        let what = "no options are written: trace-cmd was ended before it finished the file";
        return Err(input.bad(what));
    }
    let mut sections = Sections { input, decompressor: Decompressor::new(compression)? };
    let mut options = sections.options(at)?;

    let layout = sections.find(&options, id::HEADER_INFO)?;
    let layout = PageLayout::read(&mut Input::new(Cursor::new(layout))?)?;
    let mut events = Events::default();
    let formats = sections.find(&options, id::FTRACE_EVENTS)?;
    events.read_ftrace(&mut Input::new(Cursor::new(formats))?)?;
    let formats = sections.find(&options, id::EVENT_FORMATS)?;
    events.read_systems(&mut Input::new(Cursor::new(formats))?)?;

    let (mut buffers, mut areas) = (Vec::new(), Vec::new());
    for option in std::mem::take(&mut options.buffers) {
        let (buffer, area) = sections.buffer(&option)?;
        buffers.push(buffer);
        areas.push(area);
    }
    if buffers.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            if options.has_text { TEXT } else { "there is no ring buffer in it" },
        ));
    }
    let skipped = options.skipped.clone();
    let tables = Vec::new();
    let is_torn = false;
    Ok(Contents { layout, compression, events, options, buffers, areas, tables, skipped, is_torn })
}

/// The sections of a file.
struct Sections<'a, R> {
    input: &'a mut Input<R>,
    decompressor: Decompressor,
}

/// What stands before a section.
struct Header {
    is_compressed: bool,
    /// Of what follows, in bytes.
    size: u64,
}

impl<R: Read + Seek> Sections<'_, R> {
    fn header(&mut self, at: u64, id: u16) -> io::Result<Header> {
        self.input.go_to(at)?;
        let found = self.input.u16()?;
        if found != id {
            return Err(self.input.bad(&format!("section {found}, and not {id}")));
        }
        let flags = self.input.u16()?;
        let _description = self.input.u32()?;
        Ok(Header { is_compressed: flags & COMPRESSED != 0, size: self.input.u64()? })
    }

    /// What a section has.
    fn section(&mut self, at: u64, id: u16) -> io::Result<Vec<u8>> {
        let header = self.header(at, id)?;
        if !header.is_compressed {
            return self.input.bytes(header.size, MOST_SECTION);
        }
        let stored = u64::from(self.input.u32()?);
        let size = usize::try_from(self.input.u32()?).unwrap_or(usize::MAX);
        if header.size != stored + 8 || size as u64 > MOST_SECTION {
            let what = format!("section {id} has {size} bytes of {stored}, which is impossible");
            return Err(self.input.bad(&what));
        }
        let stored = self.input.bytes(stored, MOST_SECTION)?;
        let mut section = vec![0; size];
        self.decompressor
            .decompress(&stored, &mut section)
            .map_err(|why| self.input.bad(&format!("section {id}: {why}")))?;
        Ok(section)
    }

    /// The section that an option tells of.
    fn find(&mut self, options: &Options, id: u16) -> io::Result<Vec<u8>> {
        let at = options.sections.get(&id);
        let at = at.ok_or_else(|| self.input.bad(&format!("no option tells of section {id}")))?;
        self.section(*at, id)
    }

    /// The options of all sections of them, of which each tells where the next is.
    fn options(&mut self, first: u64) -> io::Result<Options> {
        let mut options = Options::default();
        let mut seen = BTreeSet::new();
        let mut at = first;
        while at != 0 {
            if !seen.insert(at) || seen.len() > MOST_OPTION_SECTIONS {
                return Err(self.input.bad("options without an end"));
            }
            let section = self.section(at, id::DONE)?;
            at = read_options(&section, &mut options)
                .map_err(|err| io::Error::new(err.kind(), format!("options at {at:#x}: {err}")))?;
        }
        Ok(options)
    }

    /// The ring buffers of an instance, by its option, and the part of the file that they are in.
    fn buffer(&mut self, option: &[u8]) -> io::Result<(Buffer, Range<u64>)> {
        let mut table = Input::new(Cursor::new(option))?;
        let at = table.u64()?;
        let name = table.string(MOST_NAME)?;
        let clock = Some(table.string(MOST_NAME)?);
        let page_size = usize::try_from(table.u32()?).unwrap_or(usize::MAX);
        let mut cpus = Vec::new();
        for _ in 0..table.count(MOST_CPUS)? {
            cpus.push(Cpu { number: table.u32()?, offset: table.u64()?, size: table.u64()? });
        }
        if table.offset() != option.len() as u64 {
            return Err(self.input.bad("a table of CPUs that has another size than it says"));
        }
        let Header { is_compressed, size } = self.header(at, id::BUFFER)?;
        let begin = self.input.offset();
        let area = begin..begin.saturating_add(size);
        if cpus.iter().any(|cpu| cpu.size > 0 && !area.contains(&cpu.offset)) {
            return Err(self.input.bad("a CPU whose pages are not in the section here"));
        }
        Ok((Buffer { name, clock, page_size, is_compressed, cpus }, area))
    }
}

/// Takes in the options of a section, up to the one that says where the next is.
fn read_options(section: &[u8], options: &mut Options) -> io::Result<u64> {
    let mut input = Input::new(Cursor::new(section))?;
    loop {
        let id = input.u16()?;
        let size = u64::from(input.u32()?);
        if id == id::DONE {
            return input.u64();
        }
        let data = input.bytes(size, MOST_SECTION)?;
        options.take(id, data)?;
    }
}
