//! A recording.
#![no_main]

use ept_trace::recording::Reader;
use ept_trace_fuzz::judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut reader) = Reader::new(bytes) {
        judge(&mut reader);
    }
});
