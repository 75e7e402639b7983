//! Messages: what a kernel's log, and QEMU's stderr, say of KVM, however the log was taken.
//!
//! A line is an envelope around a message. Most messages are of others and are passed over. Some of
//! KVM's are whole in a line, the others begin something that is put together from the lines of the
//! same caller (where the log names callers) until it is whole, another of its kind begins, or too many
//! lines have passed without a part of it. A stack is not kept.
//!
//! No log says which VM it tells of: an event has number 0 for it, which is none. Its time is that of
//! its first line: since boot where the log has that, else since the first date in the log, else 0.

mod clock;
mod complaint;
mod envelope;
mod gather;
mod hierarchy;
mod json;
mod qemu;
mod scan;
mod stamp;
mod trap;
mod vmcb;
mod vmcs;

use std::io::{self, BufRead as _, BufReader, Read};

use self::clock::{Clock, Stamp};
use self::envelope::{Caller, Envelope};
use self::gather::{Begun, Gather, Step};
use self::json::Members;
use super::{Skipped, Source, Told};
use crate::model::{Event, EventKind};

/// What is beyond it in a line is passed over: no message comes near.
const MOST_LINE: u64 = 64 << 10;
/// So many lines after its last part, something is taken for cut off. The longest dump has about 100
/// lines, and others may print theirs between them.
const PATIENCE: u64 = 256;
/// Of things that are not whole, so many are kept.
const MOST_OPEN: usize = 64;

/// What a message begins, if it is something of this sort.
type Begin = fn(&[u8]) -> Option<Begun>;

const BEGINNINGS: [Begin; 6] =
    [vmcs::begin, hierarchy::begin, trap::begin, complaint::begin, qemu::begin, vmcb::begin];

/// Reads a log.
pub struct Messages {
    input: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    members: Members,
    clock: Clock,
    /// The oldest first.
    open: Vec<Open>,
    failure: Option<io::Error>,
}

/// Something that is not whole yet.
struct Open {
    caller: Option<Caller>,
    time_ns: u64,
    /// Number of the line that had its last part.
    last: u64,
    gather: Box<dyn Gather>,
}

/// Whether the begin of a file is that of a log for [`Messages`]: something in it would be told, or
/// half of its lines are in the envelopes of a log that is, in part at least, the kernel's.
pub fn recognise(head: &[u8]) -> bool {
    let mut messages = Messages::new(Box::new(io::Cursor::new(head.to_owned())));
    loop {
        let mut told = Told::default();
        let is_read = messages.read(&mut told).is_ok();
        if !told.events.is_empty() {
            return true;
        }
        if !is_read || told.skipped.count == 0 {
            return is_of_kernel(head);
        }
    }
}

fn is_of_kernel(head: &[u8]) -> bool {
    let (mut lines, mut enveloped, mut of_kernel) = (0_usize, 0_usize, false);
    let mut members = Members::default();
    for line in head.split(|byte| *byte == b'\n') {
        if let Some(message) = members.line(line) {
            // No other file has members of these names on lines of their own.
            return message.stamp.boot_ns.is_some();
        }
        let envelope = Envelope::open(line);
        lines += usize::from(!envelope.message.is_empty());
        enveloped += usize::from(envelope.stamp != Stamp::default());
        of_kernel |= envelope.is_of_kernel;
    }
    of_kernel && enveloped * 2 >= lines
}

impl Messages {
    /// Reads from `input`.
    pub fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 16, input),
            line: Vec::new(),
            number: 0,
            members: Members::default(),
            clock: Clock::default(),
            open: Vec::new(),
            failure: None,
        }
    }

    /// Reads the next line; false at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let length = self.input.by_ref().take(MOST_LINE).read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') && length as u64 == MOST_LINE {
            self.input.skip_until(b'\n')?;
        }
        self.number += 1;
        Ok(length > 0)
    }

    /// Takes in the line that was read.
    fn line(&mut self, told: &mut Told) {
        let line = std::mem::take(&mut self.line);
        if line.trim_ascii_start().starts_with(b"\"") {
            if let Some(message) = self.members.line(&line) {
                let time_ns = self.clock.at(message.stamp);
                self.message(bare(&message.text), message.caller, time_ns, told);
            }
        } else {
            let envelope = Envelope::open(&line);
            let time_ns = self.clock.at(envelope.stamp);
            self.message(bare(envelope.message), envelope.caller, time_ns, told);
        }
        self.line = line;
    }

    fn message(&mut self, text: &[u8], caller: Option<Caller>, time_ns: u64, told: &mut Told) {
        let is_taken = !self.open.is_empty() && {
            self.give_up(told);
            self.offer(text, caller, told)
        };
        if is_taken {
            return;
        }
        match begin(text) {
            Some(Begun::Said(kind)) => told.events.push(Event { time_ns, kind }),
            Some(Begun::Open(gather)) => {
                if self.open.len() >= MOST_OPEN {
                    self.open.remove(0).end(told);
                }
                self.open.push(Open { caller, time_ns, last: self.number, gather });
            }
            Some(Begun::Bad(why)) => self.skip(why, &mut told.skipped),
            None => {}
        }
    }

    /// Offers a message to what is open, the newest first. Whether it is a part of something.
    fn offer(&mut self, text: &[u8], caller: Option<Caller>, told: &mut Told) -> bool {
        for at in (0..self.open.len()).rev() {
            let open = &mut self.open[at];
            if open.caller != caller {
                continue;
            }
            match open.gather.take(text) {
                Step::Foreign => continue,
                Step::More => open.last = self.number,
                Step::Last => self.open.remove(at).end(told),
                Step::Over => {
                    self.open.remove(at).end(told);
                    continue;
                }
                Step::Bad(why) => self.skip(why, &mut told.skipped),
            }
            return true;
        }
        false
    }

    /// Ends what has had no part for long.
    fn give_up(&mut self, told: &mut Told) {
        let is_old = |open: &mut Open| self.number - open.last > PATIENCE;
        for open in self.open.extract_if(.., is_old) {
            open.end(told);
        }
    }

    fn skip(&self, why: &str, skipped: &mut Skipped) {
        skipped.note(|| format!("line {}: {why}", self.number));
    }
}

impl Source for Messages {
    fn read(&mut self, told: &mut Told) -> io::Result<()> {
        if let Some(err) = self.failure.take() {
            return Err(err);
        }
        while told.events.is_empty() && told.skipped.count == 0 {
            let read = self.next_line();
            if matches!(read, Ok(true)) {
                self.line(told);
                continue;
            }
            // What was not whole is told as it is, before the failure is.
            for open in self.open.drain(..) {
                open.end(told);
            }
            let is_told = !told.events.is_empty();
            match read {
                Err(err) if is_told => self.failure = Some(err),
                Err(err) => return Err(err),
                Ok(_) => {}
            }
            break;
        }
        Ok(())
    }
}

impl Open {
    fn end(self, told: &mut Told) {
        let time_ns = self.time_ns;
        let event = |kind: EventKind| Event { time_ns, kind };
        told.events.extend(self.gather.end().into_iter().map(event));
    }
}

fn begin(message: &[u8]) -> Option<Begun> {
    BEGINNINGS.iter().find_map(|begin| begin(message))
}

/// The message without the names of the modules, which it may have or not.
fn bare(mut message: &[u8]) -> &[u8] {
    const MODULES: [&[u8]; 4] = [b"kvm_intel: ", b"kvm_amd: ", b"kvm: ", b"SVM: "];
    while let Some(rest) = MODULES.iter().find_map(|name| message.strip_prefix(*name)) {
        message = rest;
    }
    message.trim_ascii_start()
}

#[cfg(test)]
mod tests;
