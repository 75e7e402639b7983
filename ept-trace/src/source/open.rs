//! Opens files by what is in them, whatever their names.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::input::Input;
use super::messages::{self, Messages};
use super::trace::perf_data::{self, PerfData};
use super::trace::text::{self, Kind};
use super::trace::trace_dat::{self, TraceDat};
use super::trace::{Log, Said, TraceReader};
use super::{Observations, Source};
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

/// Opens files; `-` is the standard input. `said` is what the user says of logs. The parts of a recording become one.
///
/// The second is why files cannot be read, in words for the user.
pub fn open(files: &[PathBuf], said: &Said) -> (Vec<Opened>, Vec<String>) {
    let mut opened = Vec::new();
    let mut refused = Vec::new();
    // In the order in which they are named.
    let mut recordings: Vec<(String, Parts)> = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let done = Input::open(path).and_then(|input| {
            if !recording::recognise(&input.head) {
                opened.extend(open_one(path, input, said)?);
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

fn open_one(path: &Path, input: Input, said: &Said) -> io::Result<Vec<Opened>> {
    let name = path.display().to_string();
    let log = |reader| Log::new(reader, said);
    let of = |format, source: Box<dyn Source>| Opened {
        name: name.clone(),
        format,
        source,
        machine: None,
        is_unprotected: true,
    };
    if trace_dat::recognise(&input.head) {
        return open_trace_dat(&name, input, log);
    }
    if let Some(kind) = perf_data::recognise(&input.head) {
        let perf = match kind.map_err(io::Error::other)? {
            perf_data::Kind::File => PerfData::open(input.into_file()?)?,
            perf_data::Kind::Pipe => PerfData::stream(input.into_stream()?)?,
        };
        return Ok(vec![of("perf.data", Box::new(log(Box::new(perf))))]);
    }
    if Observations::<BufReader<&[u8]>>::recognise(&input.head) {
        let lines = BufReader::new(input.into_stream()?);
        let opened = of("observations", Box::new(Observations::new(lines)));
        return Ok(vec![Opened { machine: Some(name.clone()), ..opened }]);
    }
    if let Some(kind) = text::recognise(&input.head) {
        let kind = kind.map_err(io::Error::other)?;
        let log = log(text::open(kind, input.into_stream()?));
        let log = if kind == Kind::PerfScript { log.without_history(SILENT) } else { log };
        return Ok(vec![of("text", Box::new(log))]);
    }
    if messages::recognise(&input.head) {
        let messages = Messages::new(input.into_stream()?);
        return Ok(vec![of("a kernel's log", Box::new(messages))]);
    }
    Err(io::Error::other(if input.head.is_empty() { "it is empty" } else { UNKNOWN }))
}

/// Of several instances that hold events of KVM each is judged by itself, for the same event may be in
/// all of them.
fn open_trace_dat(
    name: &str,
    input: Input,
    log: impl Fn(Box<dyn TraceReader>) -> Log,
) -> io::Result<Vec<Opened>> {
    let dat = TraceDat::open(input.into_file()?)?;
    let mut used = Vec::new();
    for (index, instance) in dat.instances().iter().enumerate() {
        if index == 0 || dat.holds_kvm(index)? {
            used.push((index, instance));
        }
    }
    if used.len() > 1 && !dat.holds_kvm(0)? {
        used.remove(0);
    }
    let is_one = used.len() == 1;
    let opened = used.into_iter().map(|(index, instance)| {
        let log = log(Box::new(dat.reader(index)?));
        let clock = &instance.clock;
        let log = if instance.has_times {
            log
        } else {
            log.without_history(&format!("the clock of the log, {clock}, does not tell times"))
        };
        let name = match instance.name.as_str() {
            _ if is_one => name.to_owned(),
            "" => format!("{name}, the top instance"),
            instance => format!("{name}, instance `{instance}`"),
        };
        Ok(Opened {
            machine: (!is_one).then(|| name.clone()),
            name,
            format: "trace.dat",
            source: Box::new(log),
            is_unprotected: true,
        })
    });
    opened.collect()
}

const SILENT: &str =
    "the text of perf script does not tell what was lost: analyze perf.data itself";

const UNKNOWN: &str = "nothing of it is known: neither a recording of ept-trace, nor trace.dat, \
                       perf.data, the text of ftrace, trace-cmd report or perf script, nor a \
                       kernel's log";
