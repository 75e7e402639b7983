//! A file that is cut anywhere, or of which any byte is another, does no harm: nothing panics, and a
//! clean run never becomes a mismatch without it being said that the file may be damaged.

use std::io::{Cursor, Write as _};

use ept_trace::analysis::Analysis;
use ept_trace::model::{EventKind, Evidence, Fact, KernelFacts, Verdict};
use ept_trace::recording::Reader;
use ept_trace::source::trace::trace_dat::TraceDat;
use ept_trace::source::trace::{Log, Said};
use ept_trace::source::{Source, Told};

fn corpus(file: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/");
    std::fs::read(format!("{path}{file}")).unwrap_or_else(|err| panic!("{file}: {err}"))
}

/// What came of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    events: usize,
    mismatches: usize,
    /// Something is missing, and that is told.
    is_incomplete: bool,
}

/// Judges all that a source tells; `facts` are those of its machine, if it has none itself.
fn judge(source: &mut dyn Source, facts: Option<&KernelFacts>) -> Outcome {
    let mut analysis = Analysis::default();
    if let Some(facts) = facts {
        analysis.assume(facts.clone());
    }
    let mut outcome = Outcome::default();
    loop {
        let mut told = Told::default();
        let read = source.read(&mut told);
        outcome.is_incomplete |= read.is_err() || told.skipped.count > 0;
        if told.is_empty() {
            break;
        }
        for event in told.events {
            outcome.events += 1;
            let judged = analysis.judge(event);
            let is_told =
                matches!(judged.event.kind, EventKind::Gap { .. } | EventKind::Loss { .. });
            outcome.is_incomplete |= is_told;
            outcome.mismatches += usize::from(judged.verdict() == Verdict::Mismatch);
        }
        if read.is_err() {
            break;
        }
    }
    outcome
}

/// Each byte as three others.
fn changed(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).flat_map(move |at| {
        [0x01, 0x80, 0xff].map(|bits| {
            let mut changed = bytes.to_vec();
            changed[at] ^= bits;
            (at, changed)
        })
    })
}

fn recording(bytes: &[u8]) -> Outcome {
    match Reader::new(bytes) {
        Ok(mut reader) => judge(&mut reader, None),
        Err(_) => Outcome { is_incomplete: true, ..Outcome::default() },
    }
}

#[test]
fn a_recording_that_is_damaged_says_so_and_is_never_a_mismatch() {
    let whole = corpus("recording-1.0.ept");
    let clean = recording(&whole);
    assert!(clean.events > 30 && clean.mismatches == 0 && !clean.is_incomplete, "{clean:?}");
    for length in 0..whole.len() {
        let cut = recording(&whole[..length]);
        assert!(cut.is_incomplete && cut.mismatches == 0, "cut at {length}: {cut:?}");
    }
    for (at, changed) in changed(&whole) {
        let other = recording(&changed);
        let is_told = other.is_incomplete || other == clean;
        assert!(is_told && other.mismatches == 0, "byte {at}: {other:?}");
    }
}

fn said() -> Said {
    Said { maxphyaddr: Some(Fact::known(48, "test")), is_whole: true }
}

/// AMD, with 5 levels.
fn facts() -> KernelFacts {
    let file = corpus("svm-6.1.jsonl");
    let mut source = ept_trace::source::Observations::new(Cursor::new(file));
    let mut told = Told::default();
    source.read(&mut told).expect("it can be read");
    let facts = told.events.into_iter().rev().find_map(|event| match event.kind {
        EventKind::Facts(facts) => Some(*facts),
        _ => None,
    });
    facts.expect("the cell has told them")
}

fn trace_dat(bytes: &[u8], facts: &KernelFacts) -> Outcome {
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(bytes).expect("there is room");
    let said = said();
    let Ok(dat) = TraceDat::open(file) else {
        return Outcome { is_incomplete: true, ..Outcome::default() };
    };
    match dat.reader(0) {
        Ok(reader) => judge(&mut Log::new(Box::new(reader), &said), Some(facts)),
        Err(_) => Outcome { is_incomplete: true, ..Outcome::default() },
    }
}

#[test]
fn a_trace_dat_that_is_cut_is_never_a_mismatch() {
    let facts = facts();
    for file in ["dat/nested-v6.dat", "dat/nested-v7.dat"] {
        let whole = corpus(file);
        let clean = trace_dat(&whole, &facts);
        assert!(clean.events > 5 && clean.mismatches == 0, "{file}: {clean:?}");
        for length in (0..whole.len()).step_by(7) {
            let cut = trace_dat(&whole[..length], &facts);
            assert_eq!(cut.mismatches, 0, "{file} cut at {length}: {cut:?}");
        }
    }
}

#[test]
fn a_changed_byte_of_a_log_is_named_beside_what_may_come_of_it() {
    // What the log itself cannot show is said with each mismatch.
    let whole = corpus("dat/nested-v7.dat");
    let facts = facts();
    let caveat = Evidence::new("the file", "x.dat", "trace.dat has no checksums");
    let mut found = 0;
    for (at, changed) in changed(&whole).step_by(11) {
        let mut file = tempfile::tempfile().expect("there is room");
        file.write_all(&changed).expect("there is room");
        let Ok(dat) = TraceDat::open(file) else { continue };
        let Ok(reader) = dat.reader(0) else { continue };
        let mut log = Log::new(Box::new(reader), &said());
        let mut analysis = Analysis::default();
        analysis.assume(facts.clone());
        analysis.beware(Some(&caveat));
        loop {
            let mut told = Told::default();
            if log.read(&mut told).is_err() || told.is_empty() {
                break;
            }
            for event in told.events {
                let judged = analysis.judge(event);
                let wrong = judged.judgements.iter();
                for wrong in wrong.filter(|found| found.verdict == Verdict::Mismatch) {
                    assert!(wrong.evidence.contains(&caveat), "byte {at}: {wrong:?}");
                    found += 1;
                }
            }
        }
    }
    assert!(found < whole.len(), "most are no mismatch: {found}");
}
