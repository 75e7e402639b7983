//! The pages of a CPU, read from the file some at a time.

use std::fmt;
use std::io;

use super::contents::Cpu;
use super::page::Head;
use super::source::Source;

/// The pages of a CPU.
pub struct Pages {
    cpu: u32,
    /// What of the file comes next, and where the CPU's part ends.
    at: u64,
    end: u64,
    stored: Stored,
    /// What was read of the file, and how much of it is used.
    window: Vec<u8>,
    used: usize,
    /// Where it was in the file.
    window_at: u64,
    /// What comes next, if that is known.
    next: Option<Next>,
}

/// Where something is in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    cpu: u32,
    offset: u64,
    /// In the chunk at this offset, when it is decompressed.
    in_chunk: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {:#x} (CPU {})", self.offset, self.cpu)?;
        self.in_chunk.map_or(Ok(()), |at| write!(f, ", byte {at:#x} of the chunk"))
    }
}

/// How pages are stored.
#[derive(Clone, Copy)]
enum Stored {
    AsTheyAre,
    /// Compressed in chunks, and before them is how many.
    InChunks,
    /// In so many chunks more.
    InChunksLeft(u32),
}

/// What comes next.
enum Next {
    Page,
    Damaged(String),
    End,
}

/// What was fetched.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    Page,
    /// Something that cannot be read, and where. What comes after it may be.
    Damaged(String),
    End,
}

impl Pages {
    pub fn new(cpu: &Cpu, is_compressed: bool) -> Self {
        // The count of the chunks is not in the size.
        let count = if is_compressed { 4 } else { 0 };
        Self {
            cpu: cpu.number,
            at: cpu.offset,
            end: cpu.offset.saturating_add(cpu.size).saturating_add(count),
            stored: if is_compressed { Stored::InChunks } else { Stored::AsTheyAre },
            window: Vec::new(),
            used: 0,
            window_at: cpu.offset,
            next: None,
        }
    }

    /// Puts the next page into `page`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn fetch(&mut self, source: &mut Source, page: &mut Vec<u8>) -> io::Result<Fetched> {
        self.look(source)?;
        Ok(match self.next.take() {
            Some(Next::Page) => {
                let end = self.used + source.page_size;
                page.clear();
                page.extend_from_slice(&self.window[self.used..end]);
                self.used = end;
                Fetched::Page
            }
            Some(Next::Damaged(what)) => Fetched::Damaged(what),
            Some(Next::End) | None => Fetched::End,
        })
    }

    /// The time of the next page, by the clock of the pages, if it is a page that comes next.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn next_time(&mut self, source: &mut Source) -> io::Result<Option<u64>> {
        self.look(source)?;
        let is_page = matches!(self.next, Some(Next::Page));
        Ok(is_page.then(|| Head::time(&self.window[self.used..])).flatten())
    }

    /// Where the page is in the file that was fetched last.
    pub fn place(&self, source: &Source) -> Place {
        self.place_of(self.used.saturating_sub(source.page_size))
    }

    /// Where a byte of the window is in the file.
    fn place_of(&self, at: usize) -> Place {
        let (offset, in_chunk) = match self.stored {
            Stored::AsTheyAre => (self.window_at.saturating_add(at as u64), None),
            _ => (self.window_at, Some(at)),
        };
        Place { cpu: self.cpu, offset, in_chunk }
    }

    /// What is held of the file, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.window.capacity()
    }

    fn look(&mut self, source: &mut Source) -> io::Result<()> {
        if self.next.is_some() {
            return Ok(());
        }
        let left = self.window.len() - self.used;
        self.next = Some(if source.page_size > 0 && left >= source.page_size {
            Next::Page
        } else if left > 0 {
            let place = self.place_of(self.used);
            self.used = self.window.len();
            Next::Damaged(format!("{place}: {left} bytes, which are no page"))
        } else {
            self.window.clear();
            self.used = 0;
            self.window_at = self.at;
            match self.stored {
                Stored::AsTheyAre => self.read_pages(source)?,
                Stored::InChunks => self.count_chunks(source)?,
                Stored::InChunksLeft(left) => self.read_chunk(left, source)?,
            }
        });
        Ok(())
    }

    /// Nothing of the CPU's part can be read from here on.
    fn give_up(&mut self, what: impl FnOnce(u64) -> String) -> Next {
        let left = self.end.saturating_sub(self.at);
        let what = format!("{}: {}", self.place_of(0), what(left));
        self.at = self.end;
        if let Stored::InChunks | Stored::InChunksLeft(_) = self.stored {
            self.stored = Stored::InChunksLeft(0);
        }
        Next::Damaged(what)
    }

    fn end_of_file(&mut self) -> Next {
        self.give_up(|left| format!("the file ends here, and {left} bytes are missing"))
    }

    fn read_pages(&mut self, source: &mut Source) -> io::Result<Next> {
        let left = self.end.saturating_sub(self.at);
        if left == 0 {
            return Ok(Next::End);
        }
        let wanted = source.window().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.window.resize(wanted, 0);
        let read = source.read(&mut self.window, self.at)?;
        self.window.truncate(read);
        if read == 0 {
            return Ok(self.end_of_file());
        }
        self.at += read as u64;
        if read < source.page_size {
            self.used = read;
            return Ok(self.give_up(|left| {
                format!("{read} bytes, which are no page, and then {left} bytes are missing")
            }));
        }
        Ok(Next::Page)
    }

    fn count_chunks(&mut self, source: &mut Source) -> io::Result<Next> {
        let mut count = [0; 4];
        if source.read(&mut count, self.at)? < count.len() {
            return Ok(self.end_of_file());
        }
        self.at += 4;
        self.read_chunk(u32::from_le_bytes(count), source)
    }

    fn read_chunk(&mut self, left: u32, source: &mut Source) -> io::Result<Next> {
        self.stored = Stored::InChunksLeft(left);
        self.window_at = self.at;
        let most = self.end.saturating_sub(self.at);
        match (left, most) {
            (0, 0) => return Ok(Next::End),
            (0, _) => {
                return Ok(self.give_up(|left| format!("{left} bytes after the last chunk")));
            }
            (_, ..8) => return Ok(self.give_up(|_| format!("{left} chunks are missing"))),
            _ => {}
        }
        let mut head = [0; 8];
        if source.read(&mut head, self.at)? < head.len() {
            return Ok(self.end_of_file());
        }
        let (stored, size) = sizes(head);
        if stored as u64 > most - 8 {
            return Ok(self.give_up(|left| format!("a chunk of {stored} bytes, where {left} are")));
        }
        let begin = self.at + 8;
        self.at = begin + stored as u64;
        self.stored = Stored::InChunksLeft(left - 1);
        let place = self.place_of(0);
        let most = source.most_chunk();
        if size > most || stored > most + most / 16 + 1024 {
            let what = format!(
                "{place}: a chunk of {size} bytes, compressed to {stored}, and no more than {most} \
                 are read at once for each CPU; try `trace-cmd convert --compression none`"
            );
            return Ok(Next::Damaged(what));
        }
        let mut bytes = std::mem::take(&mut source.stored);
        bytes.resize(stored, 0);
        let read = source.read(&mut bytes, begin)?;
        self.window.resize(size, 0);
        let filled = source.decompressor.decompress(&bytes, &mut self.window);
        source.stored = bytes;
        if read < stored {
            self.window.clear();
            self.at = begin + read as u64;
            return Ok(self.end_of_file());
        }
        if let Err(why) = filled {
            self.window.clear();
            return Ok(Next::Damaged(format!("{place}: a chunk of {size} bytes: {why}")));
        }
        if size < source.page_size {
            self.window.clear();
            return Ok(Next::Damaged(format!(
                "{place}: a chunk of {size} bytes, which are no page"
            )));
        }
        Ok(Next::Page)
    }
}

/// How many bytes a chunk has in the file, and how many it makes.
fn sizes(head: [u8; 8]) -> (usize, usize) {
    let head = u64::from_le_bytes(head);
    ((head & 0xffff_ffff) as usize, (head >> 32) as usize)
}
