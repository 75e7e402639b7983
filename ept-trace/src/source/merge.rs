//! Several files of one incident, as one stream in the order of time.

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::{thread, vec};

use super::{Skipped, Source, Told};
use crate::model::Event;

/// What a file tells ahead of what is judged: enough to keep both sides busy.
const AHEAD: usize = 16;

/// Sources, each read by a thread of its own.
pub struct Merge {
    files: Vec<File>,
}

/// What the merged stream has next.
#[derive(Debug)]
pub enum Next {
    /// An observation of the file with this index.
    Event(usize, Event),
    /// Places of the file that could not be read.
    Skipped(usize, Skipped),
    /// From here on the file cannot be read.
    Broken(usize, io::Error),
}

struct File {
    told: Receiver<io::Result<Told>>,
    events: vec::IntoIter<Event>,
    has_ended: bool,
}

impl Merge {
    /// Begins to read.
    pub fn new(sources: impl IntoIterator<Item = Box<dyn Source>>) -> Self {
        let files = sources.into_iter().map(|mut source| {
            let (send, told) = sync_channel(AHEAD);
            // Whoever takes what is told may go, and then there is nobody left to tell.
            thread::spawn(move || {
                let mut usual = 0;
                loop {
                    let mut told = Told::default();
                    // As much is told each time, and to grow would be to copy it.
                    told.events.reserve(usual);
                    let read = source.read(&mut told);
                    usual = told.events.len();
                    let is_end = told.is_empty();
                    if !is_end && send.send(Ok(told)).is_err() {
                        return;
                    }
                    match read {
                        Ok(()) if is_end => return,
                        Ok(()) => {}
                        Err(err) => {
                            let _ = send.send(Err(err));
                            return;
                        }
                    }
                }
            });
            File { told, events: Vec::new().into_iter(), has_ended: false }
        });
        Self { files: files.collect() }
    }

    /// The file whose event comes first; while that is not known, the next one to be asked for more.
    fn first(&self) -> Option<usize> {
        let open = self.files.iter().enumerate().filter(|(_, file)| !file.has_ended);
        // Of those at the same time, the file that was named first.
        let when = |file: &File| file.events.as_slice().first().map(|event| event.time_ns);
        open.min_by_key(|(_, file)| when(file)).map(|(index, _)| index)
    }
}

impl Iterator for Merge {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        loop {
            let index = self.first()?;
            let file = &mut self.files[index];
            if let Some(event) = file.events.next() {
                return Some(Next::Event(index, event));
            }
            match file.told.recv() {
                Ok(Ok(told)) => {
                    file.events = told.events.into_iter();
                    if told.skipped.count > 0 {
                        return Some(Next::Skipped(index, told.skipped));
                    }
                }
                Ok(Err(err)) => {
                    file.has_ended = true;
                    return Some(Next::Broken(index, err));
                }
                Err(_) => file.has_ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::model::EventKind;

    /// Tells its batches, and then fails or ends.
    struct Batches(VecDeque<Vec<u64>>, bool);

    impl Source for Batches {
        fn read(&mut self, told: &mut Told) -> io::Result<()> {
            let Some(times) = self.0.pop_front() else {
                return if self.1 { Err(io::Error::other("broken")) } else { Ok(()) };
            };
            let event = |time_ns| Event { time_ns, kind: EventKind::End };
            told.events.extend(times.into_iter().map(event));
            Ok(())
        }
    }

    fn merged(files: &[&[&[u64]]]) -> Vec<(usize, u64)> {
        let sources = files.iter().map(|batches| {
            let batches = batches.iter().map(|times| times.to_vec()).collect();
            Box::new(Batches(batches, true)) as Box<dyn Source>
        });
        let mut broken = 0;
        let mut order = Vec::new();
        for next in Merge::new(sources) {
            match next {
                Next::Event(file, event) => order.push((file, event.time_ns)),
                Next::Broken(..) => broken += 1,
                Next::Skipped(..) => unreachable!("nothing is"),
            }
        }
        assert_eq!(broken, files.len(), "each fails in the end");
        order
    }

    #[test]
    fn what_came_first_comes_first_whichever_file_tells_it() {
        let order = merged(&[&[&[1, 5], &[6]], &[&[2], &[3, 9]], &[]]);
        assert_eq!(order, [(0, 1), (1, 2), (1, 3), (0, 5), (0, 6), (1, 9)]);
    }

    #[test]
    fn at_the_same_time_the_file_that_was_named_first() {
        assert_eq!(merged(&[&[&[1, 2]], &[&[1, 2]]]), [(0, 1), (1, 1), (0, 2), (1, 2)]);
    }
}
