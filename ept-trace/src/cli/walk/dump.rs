//! The whole of a table, printed range by range as it is found.

use std::io::{self, BufWriter, Write as _};

use anyhow::Result;
use serde::Serialize;

use super::Tables;
use super::json::{hex, line};
use super::ranges::{Range, Ranges, State};
use super::root::Root;
use super::text::header;
use super::words::page_size;
use crate::cli::Exit;

/// Prints the ranges.
pub(super) fn run(root: &Root, tables: &Tables, is_json: bool) -> Result<Exit> {
    for assumption in &root.assumed {
        eprintln!("ept-trace: assumed: {assumption}");
    }
    let mut exit = Exit::Clean;
    let mut out = BufWriter::new(io::stdout().lock());
    let head = if is_json { String::new() } else { header(root) + "\n" };
    let mut written = out.write_all(head.as_bytes());
    for range in Ranges::new(root, tables) {
        if matches!(range.state, State::Missing { .. } | State::NotVisited) {
            exit = Exit::Incomplete;
        }
        let printed = if is_json { line(&object(&range))? } else { text(root, &range) };
        written = written.and_then(|()| out.write_all(printed.as_bytes()));
        if written.is_err() {
            break;
        }
    }
    match written.and_then(|()| out.flush()) {
        // Whoever read has gone, as `| head` does; that is no error.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    tables.check()?;
    Ok(exit)
}

/// A line that does not depend on those around it, so that two tables can be compared with `diff`.
fn text(root: &Root, range: &Range) -> String {
    let Range { start, end, state } = range;
    let what = match state {
        State::Mapped { hpa, level, rights, memory } => {
            let size = page_size(*level);
            let memory = memory.map_or(String::new(), |(memory_type, ipat)| {
                format!(" {}{}", memory_type.name(), if ipat { " IPAT" } else { "" })
            });
            format!("-> {hpa}-{:#x} {size} {rights}{memory}", hpa.0 + (end - start))
        }
        State::NotPresent => "not present".to_owned(),
        State::KvmMmio => "misconfigured: KVM's mark of MMIO".to_owned(),
        State::Wrong { level, why } => {
            format!("misconfigured {}: {why}", root.entry_name(*level))
        }
        State::Missing { table, .. } => {
            format!("unknown: the table at {table} is not in this dump")
        }
        State::Loop { table, .. } => {
            format!("loop: leads back to the table at {table}, which is above it")
        }
        State::NotVisited => "unknown: too many tables came before, stopped here".to_owned(),
    };
    format!("{start:#x}-{end:#x} {what}\n")
}

/// A range as a JSON object.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    of_type: &'static str,
    gpa: String,
    end: String,
    #[serde(flatten)]
    state: Found<'a>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Found<'a> {
    Mapped {
        hpa: String,
        level: u8,
        rights: String,
        memory_type: Option<&'static str>,
        ipat: Option<bool>,
    },
    NotPresent,
    KvmMmio,
    Misconfigured {
        level: u8,
        why: &'a str,
    },
    NotInDump {
        table: String,
        level: u8,
    },
    Loop {
        table: String,
        level: u8,
    },
    NotVisited,
}

fn object(range: &Range) -> Object<'_> {
    let state = match &range.state {
        State::Mapped { hpa, level, rights, memory } => Found::Mapped {
            hpa: hpa.to_string(),
            level: *level,
            rights: rights.to_string(),
            memory_type: memory.map(|(memory_type, _)| memory_type.name()),
            ipat: memory.map(|(_, ipat)| ipat),
        },
        State::NotPresent => Found::NotPresent,
        State::KvmMmio => Found::KvmMmio,
        State::Wrong { level, why } => Found::Misconfigured { level: *level, why },
        State::Missing { table, level } => {
            Found::NotInDump { table: table.to_string(), level: *level }
        }
        State::Loop { table, level } => Found::Loop { table: table.to_string(), level: *level },
        State::NotVisited => Found::NotVisited,
    };
    Object { of_type: "range", gpa: hex(range.start), end: hex(range.end), state }
}
