//! A kernel's log, or QEMU's words.
#![no_main]

use std::io::Cursor;

use ept_trace::source::messages::Messages;
use ept_trace_fuzz::judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    judge(&mut Messages::new(Box::new(Cursor::new(bytes.to_vec()))));
});
