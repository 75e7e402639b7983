//! What it costs to judge the records of a log, apart from reading them.

use std::io;
use std::time::Instant;

use ept_trace::analysis::Analysis;
use ept_trace::source::trace::{Batch, Log, PageRole, Record, Said, TraceReader, Tracepoint};
use ept_trace::source::{Source as _, Told};

/// Of a direct page with level 4.
const ROOT: PageRole = PageRole::Word(0x1784);
const EMPTY: u64 = 1 << 63;
const TABLE: u64 = 0x907;
const PAGE: u64 = 0xb77;
/// Frames that the guest uses, one fault each; then they are taken away again.
const FRAMES: u64 = 1 << 14;

/// A guest that faults on page after page, as the records of a log.
struct Faults {
    left: u64,
    next: u64,
    at: u64,
}

impl Faults {
    fn new(records: u64) -> Self {
        Self { left: records, next: 0, at: 0 }
    }

    fn put(&mut self, batch: &mut Batch, event: Tracepoint) {
        self.at += 500;
        self.left = self.left.saturating_sub(1);
        batch.records.push(Record { time_ns: self.at, tid: 7, tgid: 0, event });
    }

    fn fault(&mut self, batch: &mut Batch, gfn: u64) {
        let changed = |level, old, new| Tracepoint::SpteChanged { as_id: 0, gfn, level, old, new };
        let entry = Tracepoint::Entry { vcpu: Some(0) };
        self.put(batch, Tracepoint::Exit { vcpu: Some(0), isa: Some(1) });
        let fault = Tracepoint::PageFault { vcpu: Some(0), gpa: gfn << 12, error_code: 0x782 };
        self.put(batch, fault);
        self.put(batch, Tracepoint::SpteRequested { gfn, pfn: gfn + 0x10_0000, level: 1 });
        if gfn == 0 {
            for level in [4, 3] {
                self.put(batch, changed(level, EMPTY, EMPTY | u64::from(level) << 30 | TABLE));
            }
        }
        if gfn.is_multiple_of(512) {
            self.put(batch, changed(2, EMPTY, EMPTY | (gfn + 0x1000) << 12 | TABLE));
        }
        let spte = EMPTY | (gfn + 0x10_0000) << 12 | PAGE;
        self.put(batch, changed(1, EMPTY, spte));
        self.put(batch, Tracepoint::SetSpte { gfn, level: 1, spte, place: 0x1000 });
        self.put(batch, entry);
    }
}

impl TraceReader for Faults {
    fn read(&mut self, batch: &mut Batch) -> io::Result<()> {
        if self.next == 0 && self.left > 0 {
            let role = ROOT;
            self.put(batch, Tracepoint::WriteTscOffset { vcpu: 0, previous: 0 });
            self.put(batch, Tracepoint::GetPage { gfn: 0, role, created: Some(true) });
            self.put(batch, Tracepoint::Entry { vcpu: Some(0) });
        }
        while batch.records.len() < 4096 && self.left > 0 {
            let (round, gfn) = (self.next / FRAMES, self.next % FRAMES);
            self.next += 1;
            if round.is_multiple_of(2) && round == 0 {
                self.fault(batch, gfn);
            } else {
                let spte = EMPTY | (gfn + 0x10_0000) << 12 | PAGE;
                let (old, new) =
                    if round.is_multiple_of(2) { (EMPTY, spte) } else { (spte, EMPTY) };
                if new == EMPTY {
                    let change = Tracepoint::SpteChanged { as_id: 0, gfn, level: 1, old, new };
                    self.put(batch, change);
                } else {
                    let fault =
                        Tracepoint::PageFault { vcpu: Some(0), gpa: gfn << 12, error_code: 0x782 };
                    self.put(batch, Tracepoint::Exit { vcpu: Some(0), isa: Some(1) });
                    self.put(batch, fault);
                    let pfn = gfn + 0x10_0000;
                    self.put(batch, Tracepoint::SpteRequested { gfn, pfn, level: 1 });
                    let change = Tracepoint::SpteChanged { as_id: 0, gfn, level: 1, old, new };
                    self.put(batch, change);
                    self.put(batch, Tracepoint::SetSpte { gfn, level: 1, spte, place: 0x1000 });
                    self.put(batch, Tracepoint::Entry { vcpu: Some(0) });
                }
            }
        }
        Ok(())
    }
}

fn main() {
    for records in [100_000_u64, 1_000_000, 10_000_000] {
        let mut log = Log::new(Box::new(Faults::new(records)), &Said::default());
        let mut analysis = Analysis::default();
        let begun = Instant::now();
        let mut events = 0_u64;
        loop {
            let mut told = Told::default();
            log.read(&mut told).expect("it cannot fail");
            if told.is_empty() {
                break;
            }
            for event in told.events {
                events += 1;
                let _ = analysis.judge(event);
            }
        }
        let each = begun.elapsed().as_nanos() / u128::from(records);
        let summary = analysis.summary();
        println!(
            "{records} records: {each} ns each; {events} observations, {} walks, {} mismatches, {} undetermined",
            summary.walks, summary.mismatches, summary.undetermined
        );
    }
}
