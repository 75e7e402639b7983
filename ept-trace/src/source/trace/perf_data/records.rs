//! The records, in the order of the file; those that were compressed among them.

use std::io::{self, Read};
use std::ops::Range;

use super::bytes::{u32_at, u64_at};
use super::compressed::Compressed;
use super::head::MOST_FORMATS;
use super::kinds;
use super::pieces::{PIECE_HEADER, Pieces};
use super::window::{HEADER, Header, Window};

/// All of a record of `PERF_RECORD_FINISHED_ROUND`. There is hardly anything else that looks so.
const END_OF_ROUND: [u8; HEADER] =
    ((HEADER as u64) << 48 | kinds::FINISHED_ROUND as u64).to_le_bytes();
const CUT: &str = "a record that ends after the end of the file";

/// What comes next.
#[derive(Debug)]
pub enum Next<'a> {
    Record {
        /// With its header.
        bytes: &'a [u8],
        /// Where it is in the file, or the piece that the end of it was compressed into.
        offset: u64,
    },
    /// What perf saved of tracefs.
    Formats(Vec<u8>),
    Damage(Damage),
    End,
}

/// Records are lost here.
#[derive(Debug)]
pub struct Damage {
    pub offset: u64,
    pub what: String,
}

/// Reads them.
pub struct Records {
    input: Box<dyn Read + Send>,
    window: Window,
    /// Where in the file that is what the window holds.
    offset: u64,
    /// Where the record is that was found last; in the file, and in the window.
    found_at: u64,
    found: Range<usize>,
    compressed: Option<Compressed>,
    pieces: Pieces,
    /// Where in the window is what is still to be decompressed, and what it was.
    to_decompress: Range<usize>,
    plain: Window,
    is_over: bool,
}

enum Found {
    Record(Range<usize>),
    Formats(Vec<u8>),
    /// Nothing that others need.
    Nothing,
    Damage(String),
    End,
}

impl Records {
    /// Those of `input`, which is at this offset of the file.
    pub fn new(input: Box<dyn Read + Send>, offset: u64) -> Self {
        Self {
            input,
            window: Window::new(),
            offset,
            found_at: offset,
            found: 0..0,
            compressed: None,
            pieces: Pieces::default(),
            to_decompress: 0..0,
            plain: Window::new(),
            is_over: false,
        }
    }

    /// The next; after the end there is nothing but the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    #[inline]
    pub fn next(&mut self) -> io::Result<Next<'_>> {
        while !self.is_over {
            if let Some(compressed) = &mut self.compressed {
                let input = self.window.taken(self.to_decompress.clone());
                match compressed.take(input, &mut self.plain) {
                    Ok((used, None)) => self.to_decompress.start += used,
                    Ok((used, Some(record))) => {
                        self.to_decompress.start += used;
                        let bytes = self.plain.taken(record);
                        return Ok(Next::Record { bytes, offset: self.found_at });
                    }
                    Err(what) => return Ok(Next::Damage(self.damage(what)?)),
                }
            }
            match self.find()? {
                Found::Record(record) => {
                    let bytes = self.window.taken(record);
                    return Ok(Next::Record { bytes, offset: self.found_at });
                }
                Found::Formats(bytes) => return Ok(Next::Formats(bytes)),
                Found::Nothing => {}
                Found::Damage(what) => return Ok(Next::Damage(self.damage(what)?)),
                Found::End => self.is_over = true,
            }
        }
        Ok(Next::End)
    }

    /// Finds the next record of the file.
    #[inline]
    fn find(&mut self) -> io::Result<Found> {
        self.found_at = self.offset;
        let Some(header) = self.fill(HEADER)?.then(|| Header::parse(self.window.held())).flatten()
        else {
            // What was compressed may end in the midst of a record too.
            let is_cut = !(self.window.held().is_empty() && self.plain.held().is_empty());
            return Ok(if is_cut { Found::Damage(CUT.to_owned()) } else { Found::End });
        };
        if header.kind == kinds::COMPRESSED2 {
            return self.find_piece(header);
        }
        if !header.is_possible() || self.pieces.go_on() {
            return Ok(Found::Damage(header.complaint()));
        }
        if !self.fill(header.size)? {
            return Ok(Found::Damage(CUT.to_owned()));
        }
        let record = self.take(header.size);
        self.found = record.clone();
        let bytes = self.window.taken(record.clone());
        match header.kind {
            kinds::COMPRESSED => self.decompress(record.start + HEADER..record.end),
            kinds::HEADER_TRACING_DATA => {
                let size = u32_at(bytes, HEADER).unwrap_or(0);
                self.take_formats(u64::from(size))
            }
            kinds::AUXTRACE => {
                let size = u64_at(bytes, HEADER).unwrap_or(0);
                self.skip_trace(size)
            }
            _ => Ok(Found::Record(record)),
        }
    }

    fn find_piece(&mut self, header: Header) -> io::Result<Found> {
        if !self.fill(PIECE_HEADER)? {
            return Ok(Found::Damage(CUT.to_owned()));
        }
        let content = u64_at(self.window.held(), HEADER).unwrap_or(0);
        let Some(piece) = self.pieces.next(header.size, content) else {
            return Ok(Found::Damage(header.complaint()));
        };
        if !self.fill(piece.size)? {
            return Ok(Found::Damage(CUT.to_owned()));
        }
        let begin = self.take(piece.size).start + PIECE_HEADER;
        self.decompress(begin..begin + piece.content)
    }

    fn decompress(&mut self, range: Range<usize>) -> io::Result<Found> {
        if self.compressed.is_none() {
            self.compressed = Some(Compressed::new()?);
        }
        self.to_decompress = range;
        Ok(Found::Nothing)
    }

    fn take_formats(&mut self, size: u64) -> io::Result<Found> {
        if size > MOST_FORMATS {
            return Ok(Found::Damage(format!("formats of {size} bytes")));
        }
        let mut formats = Vec::new();
        let is_whole = self.copy_to(&mut formats, size)?;
        Ok(if is_whole { Found::Formats(formats) } else { Found::Damage(CUT.to_owned()) })
    }

    fn skip_trace(&mut self, size: u64) -> io::Result<Found> {
        let is_whole = self.copy_to(&mut io::sink(), size)?;
        Ok(if is_whole { Found::Nothing } else { Found::Damage(CUT.to_owned()) })
    }

    /// Copies so many bytes that come next; `false` if the file ends before.
    fn copy_to(&mut self, output: &mut dyn io::Write, size: u64) -> io::Result<bool> {
        let held = self.window.held().len();
        let here = self.take(usize::try_from(size).unwrap_or(held));
        output.write_all(self.window.taken(here.clone()))?;
        let rest = size - here.len() as u64;
        let copied = io::copy(&mut (&mut self.input).take(rest), output)?;
        self.offset += copied;
        Ok(copied == rest)
    }

    /// What was told last can be no record. Its size may not be good either, and so it is read on
    /// from its begin.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn distrust(&mut self) -> io::Result<Damage> {
        let what = "a record that is not of its type".to_owned();
        if self.compressed.is_some() {
            return Ok(Damage { offset: self.found_at, what });
        }
        self.window.go_back(&self.found);
        self.offset = self.found_at;
        self.damage(what)
    }

    /// Tells of damage, and goes on where that is possible: at the end of the round. Nothing that
    /// was compressed can be read without all that came before it.
    fn damage(&mut self, mut what: String) -> io::Result<Damage> {
        let offset = self.found_at;
        self.pieces = Pieces::default();
        self.is_over = self.compressed.is_some() || !self.find_end_of_round()?;
        if !self.is_over {
            what = format!("{what}; read on from offset {:#x}", self.offset);
        } else if what != CUT {
            what = format!("{what}; what follows cannot be read");
        }
        Ok(Damage { offset, what })
    }

    fn find_end_of_round(&mut self) -> io::Result<bool> {
        while self.fill(HEADER)? {
            let held = self.window.held();
            match held.windows(HEADER).position(|bytes| bytes == END_OF_ROUND) {
                Some(at) => {
                    self.take(at);
                    return Ok(true);
                }
                // The begin of it may be there.
                None => drop(self.take(held.len() + 1 - HEADER)),
            }
        }
        Ok(false)
    }

    #[inline]
    fn take(&mut self, size: usize) -> Range<usize> {
        let range = self.window.take(size);
        self.offset += range.len() as u64;
        range
    }

    /// Reads until so many bytes are there; `false` if the file ends before.
    #[inline]
    fn fill(&mut self, size: usize) -> io::Result<bool> {
        while self.window.held().len() < size {
            match self.input.read(self.window.room()) {
                Ok(0) => return Ok(false),
                Ok(came) => self.window.came(came),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(true)
    }
}
