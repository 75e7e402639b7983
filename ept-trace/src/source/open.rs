//! Opens files by what is in them, whatever their names.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::input::Input;
use super::messages::{self, Messages};
use super::trace::Log;
use super::trace::text::{self, Kind};
use super::{Observations, Source};
use crate::model::Fact;
use crate::recording::{self, Header, Joined, Reader};

/// A file that was recognised; or a recording of several.
pub struct Opened {
    /// As the user has named it.
    pub name: String,
    /// What it is, for a person.
    pub format: &'static str,
    /// What reads it.
    pub source: Box<dyn Source>,
    /// The machine that it is of, and the time, if it tells; logs do not.
    pub machine: Option<String>,
    /// A changed byte of it does not show.
    pub is_unprotected: bool,
}

/// Parts of a recording, by their numbers.
type Parts = BTreeMap<u32, (String, Input)>;

/// Opens files; `-` is the standard input. `maxphyaddr` is what the user says of the guests of logs,
/// in bits. The parts of a recording become one.
///
/// The second is why files cannot be read, in words for the user.
pub fn open(files: &[PathBuf], maxphyaddr: Option<&Fact<u8>>) -> (Vec<Opened>, Vec<String>) {
    let mut opened = Vec::new();
    let mut refused = Vec::new();
    // In the order in which they are named.
    let mut recordings: Vec<(String, Parts)> = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let done = Input::open(path).and_then(|input| {
            if !recording::recognise(&input.head) {
                opened.push(open_one(path, input, maxphyaddr)?);
                return Ok(());
            }
            // Of a damaged header the reader says so, and reads the rest.
            let header = Header::read(&mut &input.head[..]);
            let (session, part) =
                header.map_or_else(|_| (name.clone(), 0), |header| (header.session, header.part));
            let at = recordings.iter().position(|(of, _)| *of == session);
            let at = at.unwrap_or_else(|| {
                recordings.push((session, Parts::default()));
                recordings.len() - 1
            });
            match recordings[at].1.insert(part, (name.clone(), input)) {
                None => Ok(()),
                Some((twice, _)) => Err(io::Error::other(format!("the same part as {twice}"))),
            }
        });
        if let Err(err) = done {
            refused.push(format!("{name}: {err}"));
        }
    }
    for (session, parts) in recordings {
        let (names, inputs): (Vec<_>, Vec<_>) = parts.into_values().unzip();
        let joined = Joined::new(inputs.into_iter().map(Input::into_stream));
        let name = names.join(" ");
        match Reader::new(joined) {
            Ok(reader) => opened.push(Opened {
                name,
                format: "a recording",
                source: Box::new(reader),
                machine: Some(session),
                is_unprotected: false,
            }),
            Err(err) => refused.push(format!("{name}: {err}")),
        }
    }
    (opened, refused)
}

fn open_one(path: &Path, input: Input, maxphyaddr: Option<&Fact<u8>>) -> io::Result<Opened> {
    let name = path.display().to_string();
    let log = |reader| Log::new(reader, maxphyaddr.cloned());
    let of = |format, source: Box<dyn Source>| Opened {
        name: name.clone(),
        format,
        source,
        machine: None,
        is_unprotected: true,
    };
    if Observations::<BufReader<&[u8]>>::recognise(&input.head) {
        let lines = BufReader::new(input.into_stream()?);
        let opened = of("observations", Box::new(Observations::new(lines)));
        return Ok(Opened { machine: Some(name.clone()), ..opened });
    }
    if let Some(kind) = text::recognise(&input.head) {
        let kind = kind.map_err(io::Error::other)?;
        let log = log(text::open(kind, input.into_stream()?));
        let log = if kind == Kind::PerfScript { log.with_silent_losses() } else { log };
        return Ok(of("text", Box::new(log)));
    }
    if messages::recognise(&input.head) {
        return Ok(of("a kernel's log", Box::new(Messages::new(input.into_stream()?))));
    }
    Err(io::Error::other(if input.head.is_empty() { "it is empty" } else { UNKNOWN }))
}

const UNKNOWN: &str = "nothing of it is known: neither a recording of ept-trace, nor trace.dat, \
                       perf.data, the text of ftrace, trace-cmd report or perf script, nor a \
                       kernel's log";
