//! Lines of observations.
#![no_main]

use ept_trace::source::Observations;
use ept_trace_fuzz::judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| judge(&mut Observations::new(bytes)));
