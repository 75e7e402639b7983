//! Reads a log on several CPUs: blocks of lines are dealt to threads in turn, and what they make of
//! them is collected in the same turn, so that its order is that of the log.

use std::io::{self, Read};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::Kind;
use super::blocks::{Block, Blocks};
use super::line::Bad;
use super::lines::{self, Parsed};
use super::payload::Bare;
use crate::source::Skipped;
use crate::source::trace::{Batch, TraceReader};

/// Who asks for what is read is busy as well, so more threads than this find nothing to do.
const MOST_THREADS: usize = 4;
/// Blocks that a thread has before it, so that none waits for the next.
const AHEAD: usize = 2;

/// A log that is read.
pub struct Reader {
    kind: Kind,
    blocks: Blocks,
    /// Begun with the first block.
    threads: Vec<Worker>,
    /// Blocks dealt so far, and collected.
    dealt: usize,
    collected: usize,
    /// What the input could not give.
    error: Option<io::Error>,
    /// Memory of blocks that are done with.
    spare: Vec<Vec<u8>>,
    /// Lines before the block that is collected next.
    lines: u64,
    /// What was said, of what is said once.
    said: Vec<Bad>,
}

struct Worker {
    work: Sender<Block>,
    done: Receiver<(Block, Parsed)>,
    thread: JoinHandle<()>,
}

impl Reader {
    pub fn new(kind: Kind, input: Box<dyn Read + Send>) -> Self {
        Self {
            kind,
            blocks: Blocks::new(input),
            threads: Vec::new(),
            dealt: 0,
            collected: 0,
            error: None,
            spare: Vec::new(),
            lines: 0,
            said: Vec::new(),
        }
    }
}

impl TraceReader for Reader {
    fn read(&mut self, batch: &mut Batch) -> io::Result<()> {
        while batch.records.is_empty() && batch.others == 0 && batch.skipped.count == 0 {
            self.deal()?;
            if self.collected == self.dealt {
                return self.error.take().map_or(Ok(()), Err);
            }
            let parsed = self.collect()?;
            self.tell(parsed, batch);
        }
        Ok(())
    }
}

impl Reader {
    /// Gives the threads work, as much as is good for them. The first block begins them.
    fn deal(&mut self) -> io::Result<()> {
        while self.dealt - self.collected < (self.threads.len() * AHEAD).max(1) {
            let block = match self.blocks.next(self.spare.pop().unwrap_or_default()) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            };
            if self.threads.is_empty() {
                self.begin(&block)?;
            }
            let worker = &self.threads[self.dealt % self.threads.len()];
            // It does not end before there is no more work, unless it panics: that is seen below.
            let _ = worker.work.send(block);
            self.dealt += 1;
        }
        Ok(())
    }

    fn begin(&mut self, first: &Block) -> io::Result<()> {
        let kind = self.kind;
        let bare = Bare::of(lines::lines(first).flatten().map(|line| kind.line(line, &mut None)));
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        for _ in 0..threads {
            self.threads.push(Worker::begin(kind, bare)?);
        }
        Ok(())
    }

    /// What the next block says.
    fn collect(&mut self) -> io::Result<Parsed> {
        let turn = self.collected % self.threads.len();
        let Ok((block, parsed)) = self.threads[turn].done.recv() else {
            return Err(match self.threads.swap_remove(turn).thread.join() {
                Ok(()) => io::Error::other("a thread has ended too soon"),
                Err(panic) => std::panic::resume_unwind(panic),
            });
        };
        self.collected += 1;
        self.spare.push(block.bytes);
        Ok(parsed)
    }

    fn tell(&mut self, parsed: Parsed, batch: &mut Batch) {
        for (line, bad) in parsed.bad {
            self.skip(self.lines + line + 1, bad, &mut batch.skipped);
        }
        self.lines += parsed.lines;
        batch.records = parsed.records;
        batch.others = parsed.others;
    }

    fn skip(&mut self, line: u64, bad: Bad, skipped: &mut Skipped) {
        // Pages are told again by the entries that link them.
        skipped.harmless += u64::from(matches!(bad, Bad::Plugin(_)));
        if bad.is_said_once() {
            if self.said.contains(&bad) {
                skipped.count += 1;
                return;
            }
            self.said.push(bad);
        }
        skipped.note(|| format!("line {line}: {bad}"));
    }
}

impl Worker {
    fn begin(kind: Kind, bare: Bare) -> io::Result<Self> {
        let (work, to_do) = channel::<Block>();
        let (results, done) = channel();
        let thread = thread::Builder::new().name("lines".to_owned()).spawn(move || {
            for block in to_do {
                let parsed = lines::parse(&block, kind, bare);
                if results.send((block, parsed)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { work, done, thread })
    }
}
