//! What the fuzz targets have in common: whatever a source tells is judged and shown as well.

use std::fs::File;
use std::io::{self, Write as _};

use ept_trace::analysis::Analysis;
use ept_trace::sink::{Json, Sink as _, Text};
use ept_trace::source::{Source, Told};

/// Reads a source to its end, judges what it tells, and shows it to nobody.
pub fn judge(source: &mut dyn Source) {
    let mut analysis = Analysis::default();
    let mut text = Text::new(io::sink(), true, false);
    let mut json = Json::new(io::sink(), false);
    loop {
        let mut told = Told::default();
        let read = source.read(&mut told);
        if told.is_empty() || read.is_err() {
            break;
        }
        for event in told.events {
            let judged = analysis.judge(event);
            text.event(judged).expect("nobody refuses it");
            json.event(judged).expect("nobody refuses it");
        }
    }
    text.finish(analysis.summary()).expect("nobody refuses it");
    json.finish(analysis.summary()).expect("nobody refuses it");
}

/// These bytes as a file, for formats that are read here and there.
pub fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(bytes).expect("there is room");
    file
}
