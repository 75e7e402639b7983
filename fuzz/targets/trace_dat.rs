//! trace.dat, every instance of it.
#![no_main]

use ept_trace::source::trace::trace_dat::TraceDat;
use ept_trace::source::trace::{Log, Said};
use ept_trace_fuzz::{file_of, judge};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(dat) = TraceDat::open(file_of(bytes)) else { return };
    for instance in 0..dat.instances().len().min(4) {
        if let Ok(reader) = dat.reader(instance) {
            judge(&mut Log::new(Box::new(reader), &Said::default()));
        }
    }
});
