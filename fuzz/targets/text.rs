//! A log as text, of the kind that it is taken for, or of one that the first byte chooses.
#![no_main]

use std::io::Cursor;

use ept_trace::source::trace::text::{self, Kind};
use ept_trace::source::trace::{Log, Said};
use ept_trace_fuzz::judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let kind = match (text::recognise(bytes), bytes.first()) {
        (Some(Ok(kind)), _) => kind,
        (_, Some(b'0')) => Kind::TraceCmd,
        (_, Some(b'1')) => Kind::PerfScript,
        _ => Kind::Ftrace,
    };
    let reader = text::open(kind, Box::new(Cursor::new(bytes.to_vec())));
    judge(&mut Log::new(reader, &Said::default()));
});
