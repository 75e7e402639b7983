//! Logs, read as a caller reads them.

mod formats;
mod hostile;
mod payloads;
mod recognised;
mod same_run;
mod speed;
mod unreadable;

use super::*;
use crate::source::trace::{Batch, Record, Tracepoint};

/// All that a log says.
fn read(kind: Kind, log: &[u8]) -> Batch {
    let mut all = Batch::default();
    let mut reader = open(kind, Box::new(std::io::Cursor::new(log.to_vec())));
    loop {
        let mut batch = Batch::default();
        reader.read(&mut batch).unwrap();
        if batch.records.is_empty() && batch.others == 0 && batch.skipped.count == 0 {
            return all;
        }
        all.records.append(&mut batch.records);
        all.skipped.append(batch.skipped);
        all.others += batch.others;
    }
}

/// All that a log says of which nothing is to be skipped.
#[track_caller]
fn records(kind: Kind, log: &str) -> Vec<Record> {
    let all = read(kind, log.as_bytes());
    assert_eq!(all.skipped.first, [""; 0], "{log}");
    all.records
}

/// The one record of a line.
#[track_caller]
fn record(kind: Kind, line: &str) -> Record {
    let records = records(kind, &format!("{line}\n"));
    assert_eq!(records.len(), 1, "{line}");
    records[0]
}

/// What a line of ftrace tells of an event.
#[track_caller]
fn told(event: &str) -> Tracepoint {
    record(Kind::Ftrace, &format!("            kt-106     [000] d..1.    11.793833: {event}")).event
}

/// Why a log's first line that cannot be read cannot be.
#[track_caller]
fn why(kind: Kind, log: &str) -> String {
    let all = read(kind, log.as_bytes());
    assert_eq!(all.records, [], "{log}");
    all.skipped.first.first().cloned().unwrap_or_else(|| panic!("nothing was skipped of {log}"))
}
