//! `walk`: what the hardware makes of an address, from a dump, this machine's memory or a list of
//! entries; the whole of a table; the conformance vectors.

mod args;
mod dump;
mod json;
mod ranges;
mod replay;
mod root;
mod text;
mod vectors;
mod words;

use std::fs;
use std::path::Path;

use anyhow::Result;

pub(super) use self::args::Args;
use self::args::Source;
pub(super) use self::replay::Replay;
use self::root::Root;
use super::Exit;
use super::analyze::BadInput;
use super::output::print;
use crate::ept::{Outcome, PhysRead, Walk};
use crate::memory::{Entries, Memory, MemoryError};
use crate::model::{Gpa, Hpa};
use crate::oracle::Image;

/// Where the entries are read from.
enum Tables {
    Memory(Box<Memory>),
    Entries(Entries),
    /// Put together from the changes of entries.
    Replayed(Box<Image>),
}

impl PhysRead for Tables {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        match self {
            Self::Memory(memory) => memory.read_u64(at),
            Self::Entries(entries) => entries.read_u64(at),
            Self::Replayed(image) => image.read_u64(at),
        }
    }
}

impl Tables {
    fn open(source: &Source) -> Result<Self> {
        match source {
            Source::Memory { dump, map } => {
                Memory::open(dump, *map).map(Self::of_memory).map_err(|err| bad(&err).into())
            }
            Source::Entries(path) => {
                let text = read(path)?;
                let entries = Entries::parse(&text)
                    .map_err(|err| BadInput(format!("{}: {err}", path.display())))?;
                Ok(Self::Entries(entries))
            }
            #[cfg(feature = "live")]
            Source::Live => {
                Memory::live().map(Self::of_memory).map_err(|err| cannot_run(&err).into())
            }
        }
    }

    fn of_memory(memory: Memory) -> Self {
        for note in memory.notes() {
            eprintln!("ept-trace: {}: {note}", memory.file());
        }
        Self::Memory(Box::new(memory))
    }

    /// Why an entry may be missing.
    fn why_missing(&self) -> Option<String> {
        match self {
            Self::Memory(memory) => memory.why_missing(),
            Self::Entries(_) => Some("--entries does not give it".to_owned()),
            Self::Replayed(image) if image.ambiguous > 0 => Some(format!(
                "{} entries are in tables of several roots, and which is in which is not told",
                image.ambiguous
            )),
            Self::Replayed(_) => Some("no change tells of it".to_owned()),
        }
    }

    /// An error if something was there and could not be read: then what was said of it is not
    /// what the dump has.
    fn check(&self) -> Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.take_trouble().map_or(Ok(()), |err| Err(bad(&err).into()))
            }
            Self::Entries(_) | Self::Replayed(_) => Ok(()),
        }
    }
}

fn bad(err: &MemoryError) -> BadInput {
    BadInput(err.to_string())
}

#[cfg(feature = "live")]
fn cannot_run(err: &MemoryError) -> crate::live::CannotRun {
    crate::live::CannotRun(format!(
        "{err}: --live reads it as root, on a kernel with CONFIG_PROC_KCORE and without lockdown"
    ))
}

fn read(path: &Path) -> Result<String> {
    let read = fs::read_to_string(path);
    read.map_err(|err| BadInput(format!("{}: {err}", path.display())).into())
}

/// Walks, or runs the vectors.
pub(super) fn run(args: &Args) -> Result<Exit> {
    if let Some(path) = args.vectors() {
        return vectors::run(path);
    }
    let (pointer, source) = args.what_to_walk()?;
    let cpu = args.cpu();
    let tables = Tables::open(&source)?;
    let gpa = args.gpa().map(Gpa);
    let root = match Root::new(pointer, &cpu, &tables, gpa) {
        Ok(root) => root,
        Err(root::Refused::Usage(why)) => anyhow::bail!(why),
        Err(root::Refused::Pointer(why)) => {
            print(&if args.is_json() {
                json::invalid_eptp(pointer.value(), gpa, &why, &cpu.assumed)?
            } else {
                text::invalid_eptp(pointer.value(), &why, &cpu.assumed)
            })?;
            return Ok(Exit::Clean);
        }
    };
    let Some(gpa) = gpa else {
        return dump::run(&root, &tables, args.is_json());
    };
    let access = args.access();
    let walk = root.walk(&tables, gpa, &access);
    let why_missing = tables.why_missing();
    print(&if args.is_json() {
        json::walk(&root, gpa, &walk, why_missing.as_deref())?
    } else {
        text::walk(&root, gpa, &access, &walk, why_missing.as_deref())
    })?;
    tables.check()?;
    Ok(exit_of(&walk))
}

fn exit_of(walk: &Walk) -> Exit {
    match walk.outcome {
        Outcome::NotInDump { .. } => Exit::Incomplete,
        _ => Exit::Clean,
    }
}
