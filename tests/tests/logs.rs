//! The logs that trace-cmd, perf and ftrace wrote of the same runs that ept-trace watched: each tells
//! what the live run has told, as far as it can, and none cries wolf. See `corpus/logs/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ept_trace::analysis::{Analysis, Judged};
use ept_trace::model::{Event, EventKind, KernelFacts, Verdict};
use ept_trace::source::trace::Said;
use ept_trace::source::{Merge, Next, open};

fn logs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/logs")
}

/// The files of a session that begin like this; there must be some.
fn files(session: &str, begins: &[&str]) -> Vec<PathBuf> {
    let all = fs::read_dir(logs().join(session)).unwrap_or_else(|err| panic!("{session}: {err}"));
    let mut files: Vec<_> = all
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            begins.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{session}: no {begins:?}");
    files
}

/// Sessions that are not of a fault.
fn healthy() -> Vec<String> {
    let all = fs::read_dir(logs()).expect("the corpus is there");
    let names = all.map(|entry| entry.expect("it can be read").file_name().into_string().unwrap());
    names
        .filter(|name| !name.starts_with("fault-") && !name.contains('.') || is_cell(name))
        .collect()
}

fn is_cell(name: &str) -> bool {
    ["svm-", "vmx-", "vmx5-"].iter().any(|cpu| name.starts_with(cpu))
}

/// The facts of the cell that a session ran in.
fn facts(session: &str) -> KernelFacts {
    let cell = ["fault-", "moved-", "lost-", "buffers-"].iter().find_map(|kind| {
        let rest = session.strip_prefix(kind)?;
        Some(if *kind == "fault-" { rest.split_once('-')?.1 } else { rest })
    });
    let path = logs().join(cell.unwrap_or(session)).join("facts.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let mut doctor: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).expect("doctor has printed it");
    serde_json::from_value(doctor.remove("facts").expect("it has them")).expect("they are")
}

/// What became of a file.
struct Read {
    judged: Vec<Judged>,
    /// It was refused, or not all of it could be read.
    is_bad: bool,
}

/// Judges a file as `analyze --kernel-facts` does.
fn judge(file: &Path, session: &str) -> Read {
    let (opened, refused) = open(&[file.to_owned()], &Said { maxphyaddr: None, is_whole: true });
    let mut is_bad = !refused.is_empty();
    let mut judged = Vec::new();
    for opened in opened {
        let mut analysis = Analysis::default();
        let kind = EventKind::Facts(Box::new(facts(session)));
        judged.push(analysis.judge(Event { time_ns: 0, kind }).clone());
        for next in Merge::new([opened.source]) {
            match next {
                Next::Event(_, event) => judged.push(analysis.judge(event).clone()),
                Next::Skipped(_, skipped) => is_bad |= skipped.count > skipped.harmless,
                Next::Broken(_, err) => panic!("{}: {err}", file.display()),
            }
        }
    }
    Read { judged, is_bad }
}

/// Rules that find a mismatch.
fn broken(judged: &[Judged]) -> BTreeSet<&'static str> {
    let all = judged.iter().flat_map(|judged| &*judged.judgements);
    all.filter(|found| found.verdict == Verdict::Mismatch).map(|found| found.rule).collect()
}

/// Changes of entries by the TDP MMU: address space, frame, level, old, new.
type Change = (Option<u8>, u64, u8, u64, u64);

fn changes(judged: &[Judged]) -> Vec<Change> {
    let change = |judged: &Judged| match &judged.event.kind {
        EventKind::SpteChange(change) => {
            Some((change.as_id, change.gfn, change.level, change.old?, change.new))
        }
        _ => None,
    };
    judged.iter().filter_map(change).collect()
}

/// Root levels by MAXPHYADDR: of roots in a log, of decisions in a live run.
fn levels(judged: &[Judged]) -> BTreeSet<(u32, u8)> {
    let level = |judged: &Judged| match &judged.event.kind {
        EventKind::Root(root) => {
            let bits = root.maxphyaddr.as_ref()?.value()?;
            Some((u32::from(bits), root.level()))
        }
        EventKind::Decision(decision) => Some((decision.maxphyaddr?, decision.after.root_level?)),
        _ => None,
    };
    judged.iter().filter_map(level).collect()
}

/// Walks that were judged: the address, and where it leads.
fn walks(judged: &[Judged]) -> BTreeSet<(u64, String)> {
    let walk = |judged: &Judged| match (&judged.event.kind, &judged.walk_end) {
        (EventKind::Walk(walk), Some(Ok(end))) if judged.not_judged.is_none() => {
            let end = end.to_string();
            // The rights may be others by the time that the live run looks.
            let leads = end.split(", level").next().unwrap_or_default().to_owned();
            Some((walk.gpa, leads))
        }
        _ => None,
    };
    judged.iter().filter_map(walk).collect()
}

/// Files that have every event of their run.
const WHOLE: [&str; 14] = [
    "trace.dat",
    "trace.v6",
    "trace.v7",
    "trace.txt",
    "trace.tgid",
    "trace.fields",
    "trace.latency",
    "trace.verbose",
    "trace.no-irq",
    "perf.data",
    "perf.pipe",
    "perf.zstd",
    "report.raw",
    "report.no-plugins",
];

#[test]
fn no_log_of_a_healthy_run_is_a_mismatch() {
    let mut read = 0;
    for session in healthy() {
        for file in files(&session, &["trace", "perf", "report", "dmesg", "events"]) {
            assert_eq!(broken(&judge(&file, &session).judged), BTreeSet::new(), "{file:?}");
            read += 1;
        }
    }
    assert!(read > 80, "only {read} files");
}

#[test]
fn every_whole_log_tells_what_the_live_run_told() {
    for session in ["svm-6.12", "vmx5-6.12"] {
        let live = judge(&files(session, &["events"])[0], session).judged;
        assert!(changes(&live).len() > 50 && walks(&live).len() > 10, "{session}");
        let logs = files(session, &WHOLE);
        assert_eq!(logs.len(), WHOLE.len(), "{session}");
        for file in logs {
            let Read { judged, is_bad } = judge(&file, session);
            assert!(!is_bad, "{file:?}");
            assert_eq!(changes(&judged), changes(&live), "{file:?}");
            let (told, known) = (levels(&judged), levels(&live));
            assert!(!told.is_empty() && told.is_subset(&known), "{file:?}: {told:?} {known:?}");
            let (told, known) = (walks(&judged), walks(&live));
            assert!(told.is_subset(&known), "{file:?}: {told:?} {known:?}");
        }
    }
}

#[test]
fn what_is_lost_is_told() {
    for (session, begins) in [
        ("lost-svm-6.12", "trace"),
        ("lost-svm-6.12", "perf"),
        ("lost-svm-6.12", "report"),
        ("svm-6.12", "trace.lost"),
        ("svm-6.12", "trace.pipe-lost"),
        ("vmx5-6.12", "trace.lost"),
    ] {
        for file in files(session, &[begins]) {
            let judged = judge(&file, session).judged;
            let is_told = judged.iter().any(|judged| {
                matches!(judged.event.kind, EventKind::Loss { .. } | EventKind::Gap { .. })
            });
            assert!(is_told, "{file:?}");
        }
    }
}

#[test]
fn what_tells_no_fields_or_no_thread_is_refused() {
    for session in ["svm-6.12", "vmx5-6.12"] {
        for file in files(session, &["trace.raw", "trace.bare"]) {
            let Read { judged, is_bad } = judge(&file, session);
            assert!(is_bad && judged.is_empty(), "{file:?}");
        }
    }
}

#[test]
fn a_seeded_fault_is_found_in_every_log_that_can_carry_it() {
    for (session, rule, carriers) in [
        (
            "fault-level-vmx5-6.12",
            "EPT103",
            &["trace.dat", "perf.few", "perf-script", "report.raw"][..],
        ),
        ("fault-loop-svm-6.12", "EPT103", &["trace.dat", "perf.few", "perf-script", "report.raw"]),
        ("fault-entry-svm-6.12", "EPT401", &["trace.dat", "report.raw"]),
        ("fault-pointer-vmx5-6.12", "EPT201", &["dmesg"]),
        ("fault-reserved-vmx5-6.12", "EPT301", &["dmesg"]),
    ] {
        let live = judge(&files(session, &["events"])[0], session).judged;
        assert!(broken(&live).contains(rule), "{session}: {:?}", broken(&live));
        for file in files(session, carriers) {
            let judged = judge(&file, session).judged;
            // Of the kernel's log, which goes back to the boot: the fault before is in it as well.
            let is_of_one_boot = session == "fault-reserved-vmx5-6.12";
            let before = is_of_one_boot.then_some("EPT201");
            let expected = before.into_iter().chain([rule]).collect();
            assert_eq!(broken(&judged), expected, "{file:?}");
        }
    }
}
