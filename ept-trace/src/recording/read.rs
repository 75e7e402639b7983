//! From frames to observations: in their order, and with a gap wherever some are missing.

use std::io::{self, Read};

use super::frames::{Frames, Item};
use super::layout::{Frame, Header, kind};
use super::lines;
use crate::model::{Event, EventKind};
use crate::source::{Source, Told};

/// A line that is no observation is quoted no further than this.
const LONGEST_WHY: usize = 200;

/// Reads a recording: one file, or several parts of it in a row.
///
/// Whatever is damaged or missing is a [`EventKind::Gap`] in its place, which says where and how much;
/// what comes after it is read. The history of a VM with such a gap in it is not whole: its changes
/// of entries are no longer [`from_start`](crate::model::SpteChange::from_start).
pub struct Reader<R> {
    frames: Frames<R>,
    /// By what its frames are told from those of others, once that is known.
    tag: Option<u32>,
    /// The part that is read, if its header was not damaged.
    part: Option<u32>,
    ending: Ending,
    /// Nothing more is told.
    is_over: bool,
    /// What was wrong since the last frame that was not.
    damage: Option<String>,
    /// Observations of the recording before what comes next.
    position: u64,
    /// Time of the last one.
    time_ns: u64,
    /// Since the last frame there is a gap.
    is_torn: bool,
    /// The history of VMs up to this one has a gap.
    torn_to: u32,
}

/// All that is told of a recording, for those that fit into memory.
///
/// # Errors
///
/// As [`Source::read`] of a [`Reader`].
pub fn read_all(input: impl Read + Send) -> io::Result<Vec<Event>> {
    let mut reader = Reader::new(input)?;
    let mut events = Vec::new();
    loop {
        let mut told = Told::default();
        reader.read(&mut told)?;
        if told.events.is_empty() {
            return Ok(events);
        }
        events.append(&mut told.events);
    }
}

/// How what was read so far ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Somewhere.
    Open,
    /// With the end of the recording.
    Closed,
    /// With the end of a part, and another follows.
    Continued,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which may be a pipe.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn new(input: R) -> io::Result<Self> {
        Ok(Self {
            frames: Frames::new(input)?,
            tag: None,
            part: None,
            ending: Ending::Open,
            is_over: false,
            damage: None,
            position: 0,
            time_ns: 0,
            is_torn: false,
            torn_to: 0,
        })
    }

    /// A part begins.
    fn part(&mut self, header: &Header) -> io::Result<()> {
        if *self.tag.get_or_insert(header.tag()) != header.tag() {
            let what = format!("{}: another recording begins here", self.frames.place());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let part = header.part;
        match self.part.replace(part) {
            None if part > 1 => self.note(format!("part {part} is read without those before it")),
            None => self.time_ns = header.monotonic_ns,
            Some(before) if part.checked_sub(1) != Some(before) => {
                self.note(format!("part {part} comes after part {before}"));
            }
            Some(before) if self.ending != Ending::Continued => {
                self.note(format!("part {before} was cut off: its end is missing"));
            }
            Some(_) => {}
        }
        self.ending = Ending::Open;
        Ok(())
    }

    /// A frame comes next, with its text.
    fn frame(&mut self, frame: &Frame, text: &[u8], told: &mut Told) {
        if *self.tag.get_or_insert(frame.tag) != frame.tag {
            return self.note(format!("{}: a frame of another recording", self.frames.place()));
        }
        let Some(missing) = frame.before.checked_sub(self.position) else {
            return self.note(format!("{}: a frame that was there before", self.frames.place()));
        };
        match frame.kind {
            kind::OBSERVATIONS => {
                self.arrive(frame, missing, told);
                self.position = self.position.saturating_add(frame.count.into());
                self.tell(frame, text, told);
            }
            kind::STATE if missing > 0 => {
                self.arrive(frame, missing, told);
                self.tell(frame, text, told);
            }
            kind::CONTINUED => {
                self.arrive(frame, missing, told);
                self.ending = Ending::Continued;
            }
            // A state that is known, or what a later program has added.
            _ => {}
        }
    }

    /// Tells what is wrong before a frame.
    fn arrive(&mut self, frame: &Frame, missing: u64, told: &mut Told) {
        self.position = frame.before;
        if missing > 0 || self.damage.is_some() {
            let damage = self.damage.take().unwrap_or_else(|| self.frames.place().to_string());
            self.gap(format!("{damage}; {missing} observations are missing"), told);
        }
        if std::mem::take(&mut self.is_torn) {
            self.torn_to = self.torn_to.max(frame.newest_vm);
        }
    }

    /// Tells the observations of a frame.
    fn tell(&mut self, frame: &Frame, text: &[u8], told: &mut Told) {
        let first = told.events.len();
        let mut lines = 0;
        // Lines in a row that are no observations, and what is wrong with the first.
        let mut bad: Option<(String, u64)> = None;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            match lines::event(line) {
                Ok(event) => {
                    self.bad_lines(bad.take(), told);
                    self.time_ns = event.time_ns;
                    let is_end = event.kind == EventKind::End;
                    self.ending = if is_end { Ending::Closed } else { Ending::Open };
                    told.events.push(event);
                }
                Err(err) => {
                    let why = || err.to_string().escape_debug().take(LONGEST_WHY).collect();
                    bad.get_or_insert_with(|| (why(), 0)).1 += 1;
                }
            }
        }
        if lines != u64::from(frame.count) {
            let why = format!("the frame has {lines} lines, and not {}", frame.count);
            bad.get_or_insert((why, 0)).1 += lines.abs_diff(frame.count.into());
        }
        self.bad_lines(bad, told);
        let events = &mut told.events[first..];
        if self.is_torn {
            let newest = events.iter().filter_map(|event| event.kind.vm()).max();
            self.torn_to = self.torn_to.max(newest.unwrap_or(0));
        }
        for event in events {
            if let EventKind::SpteChange(change) = &mut event.kind {
                change.from_start &= change.vm.is_none_or(|vm| vm > self.torn_to);
            }
        }
    }

    /// Lines of the last frame are no observations, or have too many or too few.
    fn bad_lines(&mut self, bad: Option<(String, u64)>, told: &mut Told) {
        if let Some((why, lines)) = bad {
            let place = self.frames.place();
            self.gap(format!("before {place}: {lines} observations are not known: {why}"), told);
        }
    }

    /// Remembers what is wrong, until it is known how much is missing for it.
    fn note(&mut self, damage: String) {
        self.damage.get_or_insert(damage);
    }

    fn gap(&mut self, reason: String, told: &mut Told) {
        self.is_torn = true;
        told.events.push(Event { time_ns: self.time_ns, kind: EventKind::Gap { reason } });
    }

    /// Tells at the end what is wrong with it.
    fn end(&mut self, told: &mut Told) {
        self.is_over = true;
        let missing = match self.ending {
            Ending::Closed => None,
            Ending::Open => Some("the file was cut off here: its end is missing".to_owned()),
            Ending::Continued => {
                Some("the recording goes on in a part that was not read".to_owned())
            }
        };
        let wrong: Vec<_> = self.damage.take().into_iter().chain(missing).collect();
        if !wrong.is_empty() {
            self.gap(wrong.join("; "), told);
        }
    }
}

impl<R: Read + Send> Source for Reader<R> {
    fn read(&mut self, told: &mut Told) -> io::Result<()> {
        while told.events.is_empty() && !self.is_over {
            match self.frames.next()? {
                Item::Part(header) => self.part(&header)?,
                Item::Frame(frame, text) => self.frame(&frame, &text, told),
                Item::Damage(place, what) => {
                    // There may be millions of these in a row.
                    self.damage.get_or_insert_with(|| format!("{place}: {what}"));
                }
                Item::End => self.end(told),
            }
        }
        Ok(())
    }
}
