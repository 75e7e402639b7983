//! What trace-cmd and perf save of tracefs, so that events can be decoded elsewhere: how pages of
//! the ring buffer are laid out, and the format of each event.
//!
//! trace-cmd.dat.v6(5) specifies it. A trace.dat of version 6 begins with it, one of version 7 has
//! its parts in sections, and a perf.data has it as `HEADER_TRACING_DATA`.

mod input;

use std::io::{self, Cursor, Read, Seek};

use super::binary::Decoder;
use super::format::{Field, Format};
use crate::source::Skipped;
pub use input::Input;

/// What all of this begins with. A version follows, with a zero at its end.
pub const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// The formats of the kernel are smaller by far.
const MOST_TEXT: u64 = 1 << 20;
/// Names of systems and versions.
const MOST_NAME: usize = 256;
/// An ID has 16 bits, and so there are no more events.
const MOST_EVENTS: u32 = 1 << 16;

/// Reads what comes first, and returns the version: "6", "7", or perf's "0.6".
///
/// # Errors
///
/// It is something else, or of a machine that is big-endian.
pub fn read_version<R: Read + Seek>(input: &mut Input<R>) -> io::Result<String> {
    input.expect(MAGIC)?;
    let version = input.string(MOST_NAME)?;
    let [endianness, _long_size] = input.array()?;
    if endianness != 0 {
        return Err(input.bad("it is big-endian, and so not of an x86 machine"));
    }
    let _page_size = input.u32()?;
    Ok(version)
}

/// How a page of the ring buffer is laid out: `events/header_page` of tracefs. It begins with a
/// time of 8 bytes; all places are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Where the length of the data is, with flags.
    pub commit: usize,
    /// The size of that: 8, or 4 on a 32-bit kernel.
    pub commit_size: usize,
    /// Where the data is.
    pub data: usize,
    /// How large the page is.
    pub size: usize,
}

/// Pages of the ring buffer are larger than one of the machine only if that was asked for.
const MOST_PAGE: usize = 1 << 20;

impl PageLayout {
    /// Reads `header_page`, and passes over `header_event`, of which there is one.
    ///
    /// # Errors
    ///
    /// They are not there, or no page can be so.
    pub fn read<R: Read + Seek>(input: &mut Input<R>) -> io::Result<Self> {
        input.expect(b"header_page\0")?;
        let text = input.sized_text(MOST_TEXT)?;
        let layout = Self::parse(&text);
        let layout =
            layout.ok_or_else(|| input.bad("no good layout of the ring buffer's pages"))?;
        input.expect(b"header_event\0")?;
        let size = input.u64()?;
        input.skip(size)?;
        Ok(layout)
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.lines().filter_map(|line| Field::parse(line).ok()).collect();
        let place = |name| {
            let field = fields.iter().find(|field: &&Field| field.name == name)?;
            Some((usize::from(field.offset), usize::from(field.size)))
        };
        let (timestamp, commit, data) = (place("timestamp")?, place("commit")?, place("data")?);
        let layout =
            Self { commit: commit.0, commit_size: commit.1, data: data.0, size: data.0 + data.1 };
        let is_good = timestamp == (0, 8)
            && matches!(layout.commit_size, 4 | 8)
            && layout.commit >= 8
            && layout.data >= layout.commit + layout.commit_size;
        (is_good && layout.has_good_size()).then_some(layout)
    }

    /// The same, for pages of another size.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Whether a page can be of its size.
    pub fn has_good_size(&self) -> bool {
        self.size > self.data && self.size <= MOST_PAGE
    }
}

/// The events of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Decodes them.
    pub decoder: Decoder,
    /// Formats that could not be read: such events are unknown.
    pub skipped: Skipped,
}

impl Events {
    /// Reads those of a `HEADER_TRACING_DATA` of perf.
    ///
    /// # Errors
    ///
    /// It is damaged, or of a machine that is big-endian.
    pub fn of_perf(tracing_data: &[u8]) -> io::Result<Self> {
        let mut input = Input::new(Cursor::new(tracing_data))?;
        read_version(&mut input)?;
        PageLayout::read(&mut input)?;
        let mut events = Self::default();
        events.read_ftrace(&mut input)?;
        events.read_systems(&mut input)?;
        Ok(events)
    }

    /// Takes in the formats of the system `ftrace`, which are saved apart from the others.
    ///
    /// # Errors
    ///
    /// The file ends in them, or a size is impossible.
    pub fn read_ftrace<R: Read + Seek>(&mut self, input: &mut Input<R>) -> io::Result<()> {
        let count = input.count(MOST_EVENTS)?;
        self.read_formats("ftrace", count, input)
    }

    /// Takes in the formats of all other systems.
    ///
    /// # Errors
    ///
    /// As [`Self::read_ftrace`].
    pub fn read_systems<R: Read + Seek>(&mut self, input: &mut Input<R>) -> io::Result<()> {
        for _ in 0..input.count(MOST_EVENTS)? {
            let system = input.string(MOST_NAME)?;
            let count = input.count(MOST_EVENTS)?;
            self.read_formats(&system, count, input)?;
        }
        Ok(())
    }

    fn read_formats<R: Read + Seek>(
        &mut self,
        system: &str,
        count: u32,
        input: &mut Input<R>,
    ) -> io::Result<()> {
        for _ in 0..count {
            let at = input.offset();
            let text = input.sized_text(MOST_TEXT)?;
            let learned = Format::parse(system, &text).and_then(|it| self.decoder.learn(&it));
            if let Err(why) = learned {
                let system = system.escape_debug();
                self.skipped.note(|| format!("offset {at:#x}: a format of {system}: {why}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
