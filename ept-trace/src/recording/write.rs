//! Observations, into the frames of a recording.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use zstd::bulk::Compressor;

use super::layout::{Frame, Header, MOST_FRAME, crc, kind};
use crate::model::{Event, EventKind};

/// A frame with as many bytes of text is complete.
const FULL: usize = 256 << 10;
/// And one that was begun so long ago: what is not written is lost when the writer is killed.
const OLD: Duration = Duration::from_secs(1);
/// Observations repeat so much that a higher level makes no less of them, and takes longer.
const LEVEL: i32 = 1;

/// Where the parts of a recording go.
pub trait Parts {
    /// One of them.
    type Part: Write;

    /// Begins the part of this number, from 1.
    ///
    /// # Errors
    ///
    /// If it cannot be written to.
    fn begin(&mut self, part: u32) -> io::Result<Self::Part>;
}

/// Writes a recording.
///
/// After an error no more should be written; what was written before remains good.
pub struct Writer<P: Parts> {
    parts: P,
    part: Part<P::Part>,
    header: Header,
    /// Another part is begun after so many bytes.
    limit: Option<u64>,
    /// The text of the next frame, its header as far as it is known, and since when there is any.
    text: Vec<u8>,
    next: Frame,
    since: Option<Instant>,
    /// The highest number of a VM so far.
    newest_vm: u32,
    state: State,
}

impl<P: Parts> Writer<P> {
    /// Begins a recording: with `header`, but for what it says of parts. A part is the last to which
    /// anything is added when it has `limit` bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn new(mut parts: P, header: Header, limit: Option<u64>) -> io::Result<Self> {
        let header = Header { part: 1, newest_vm: 0, ..header };
        Ok(Self {
            part: Part::begin(parts.begin(1)?, &header, 0)?,
            parts,
            header,
            limit,
            text: Vec::new(),
            next: Frame::default(),
            since: None,
            newest_vm: 0,
            state: State::default(),
        })
    }

    /// Takes the next observation.
    ///
    /// # Errors
    ///
    /// If it, or one that has waited, cannot be written.
    pub fn push(&mut self, event: &Event) -> io::Result<()> {
        if self.since.is_none() {
            let is_full = self.limit.is_some_and(|limit| self.part.length >= limit);
            if is_full && self.next.before > self.part.first {
                self.next_part()?;
            }
            self.since = Some(Instant::now());
        }
        let length = self.text.len();
        serde_json::to_writer(&mut self.text, event)?;
        self.text.push(b'\n');
        if self.text.len() > MOST_FRAME {
            self.text.truncate(length);
            return Err(io::Error::other("an observation is longer than a frame may be"));
        }
        self.next.add(event);
        self.newest_vm = self.newest_vm.max(event.kind.vm().unwrap_or(0));
        self.state.note(event);
        if self.text.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Writes what has waited for long. To be called often, whether or not there was an observation.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn keep_up(&mut self) -> io::Result<()> {
        match self.since {
            Some(since) if since.elapsed() >= OLD => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes all that has waited. The end of a recording is an observation too, [`EventKind::End`].
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.since.take().is_none() {
            return Ok(());
        }
        let frame = Frame { kind: kind::OBSERVATIONS, ..self.next };
        let before = self.next.before + u64::from(self.next.count);
        self.next = Frame { before, newest_vm: self.newest_vm, ..Frame::default() };
        let text = std::mem::take(&mut self.text);
        let written = self.part.write(frame, &text);
        // Its memory serves again.
        self.text = text;
        self.text.clear();
        written
    }

    /// Goes on in the next part, which must be of use without those before it.
    fn next_part(&mut self) -> io::Result<()> {
        let header =
            Header { part: self.header.part + 1, newest_vm: self.newest_vm, ..self.header.clone() };
        let part = self.parts.begin(header.part)?;
        self.part.write(Frame { kind: kind::CONTINUED, ..self.next }, &[])?;
        self.part = Part::begin(part, &header, self.next.before)?;
        self.header = header;
        let mut frame = Frame { kind: kind::STATE, ..self.next };
        let mut text = Vec::new();
        for event in self.state.events() {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
            frame.add(event);
        }
        self.part.write(frame, &text)
    }
}

impl<P: Parts> Drop for Writer<P> {
    /// What has waited is kept, if that is still possible. The recording has no end then.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

impl Frame {
    /// Counts an observation in.
    fn add(&mut self, event: &Event) {
        let time = event.time_ns;
        self.earliest_ns = if self.count == 0 { time } else { self.earliest_ns.min(time) };
        self.latest_ns = self.latest_ns.max(time);
        self.count += 1;
    }
}

/// A part that is written.
struct Part<W> {
    out: W,
    compressor: Compressor<'static>,
    tag: u32,
    /// Observations in the parts before.
    first: u64,
    /// Bytes so far.
    length: u64,
}

impl<W: Write> Part<W> {
    fn begin(mut out: W, header: &Header, first: u64) -> io::Result<Self> {
        let bytes = header.encode()?;
        out.write_all(&bytes)?;
        out.flush()?;
        let compressor = Compressor::new(LEVEL)?;
        Ok(Self { out, compressor, tag: header.tag(), first, length: bytes.len() as u64 })
    }

    /// Writes a frame, in one call: a program that is killed seldom leaves half of one.
    fn write(&mut self, frame: Frame, text: &[u8]) -> io::Result<()> {
        let stored = if text.is_empty() { Vec::new() } else { self.compressor.compress(text)? };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let frame = Frame {
            stored: length(&stored)?,
            text: length(text)?,
            crc: crc(&stored),
            tag: self.tag,
            ..frame
        };
        let bytes = [&frame.encode()[..], &stored].concat();
        self.out.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        self.out.flush()
    }
}

/// What must be known of the parts before to judge what comes next.
#[derive(Default)]
struct State {
    hooks: Option<Event>,
    facts: Option<Event>,
    /// The last since these facts.
    configured: Option<Event>,
}

impl State {
    fn note(&mut self, event: &Event) {
        match event.kind {
            EventKind::Hooks { .. } => self.hooks = Some(event.clone()),
            EventKind::Facts(_) => {
                self.facts = Some(event.clone());
                self.configured = None;
            }
            EventKind::ConfigureMmu(_) => self.configured = Some(event.clone()),
            _ => {}
        }
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        [&self.hooks, &self.facts, &self.configured].into_iter().flatten()
    }
}
