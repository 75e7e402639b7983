//! perf.data, as a file or through a pipe.
#![no_main]

use std::io::Cursor;

use ept_trace::source::trace::perf_data::{self, Kind, PerfData};
use ept_trace::source::trace::{Log, Said};
use ept_trace_fuzz::{file_of, judge};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let perf = match perf_data::recognise(bytes) {
        Some(Ok(Kind::File)) => PerfData::open(file_of(bytes)),
        Some(Ok(Kind::Pipe)) => PerfData::stream(Box::new(Cursor::new(bytes.to_vec()))),
        Some(Err(_)) | None => return,
    };
    if let Ok(perf) = perf {
        judge(&mut Log::new(Box::new(perf), &Said::default()));
    }
});
