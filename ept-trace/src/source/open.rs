//! Opens a file by what is in it, whatever its name.

use std::io::{self, BufReader};
use std::path::Path;

use super::input::Input;
use super::messages::{self, Messages};
use super::trace::Log;
use super::trace::text::{self, Kind};
use super::{Observations, Source};
use crate::model::Fact;

/// A file that was recognised.
pub struct Opened {
    /// What it is, for a person.
    pub format: &'static str,
    /// What reads it.
    pub source: Box<dyn Source>,
    /// The machine that it is of, and the time, if it tells; logs do not.
    pub machine: Option<String>,
    /// A changed byte of it does not show.
    pub is_unprotected: bool,
}

/// Opens a file; `-` is the standard input. `maxphyaddr` is what the user says of the guests of a
/// log, in bits.
///
/// # Errors
///
/// If it cannot be read, or is nothing that is known, in words for the user.
pub fn open(path: &Path, maxphyaddr: Option<&Fact<u8>>) -> io::Result<Opened> {
    let input = Input::open(path)?;
    let log = |reader| Log::new(reader, maxphyaddr.cloned());
    if Observations::<BufReader<&[u8]>>::recognise(&input.head) {
        let lines = BufReader::new(input.into_stream()?);
        let source = Box::new(Observations::new(lines));
        let machine = Some(path.display().to_string());
        return Ok(Opened { format: "observations", source, machine, is_unprotected: true });
    }
    if let Some(kind) = text::recognise(&input.head) {
        let kind = kind.map_err(io::Error::other)?;
        let log = log(text::open(kind, input.into_stream()?));
        let source = Box::new(match kind {
            Kind::PerfScript => log.with_silent_losses(),
            _ => log,
        });
        return Ok(Opened { format: "text", source, machine: None, is_unprotected: true });
    }
    if messages::recognise(&input.head) {
        let source = Box::new(Messages::new(input.into_stream()?));
        return Ok(Opened {
            format: "a kernel's log",
            source,
            machine: None,
            is_unprotected: true,
        });
    }
    Err(io::Error::other(if input.head.is_empty() { "it is empty" } else { UNKNOWN }))
}

const UNKNOWN: &str = "nothing of it is known: neither a recording of ept-trace, nor trace.dat, \
                       perf.data, the text of ftrace, trace-cmd report or perf script, nor a \
                       kernel's log";
