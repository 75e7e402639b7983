//! Reports of what was observed in the lab, as it was and with faults, read by the formats' own
//! parsers. No kernel is booted here.

use std::fs;
use std::path::Path;

use ept_trace::analysis::{Analysis, LevelShape};
use ept_trace::model::{Event, EventKind, Fact, VmcsDump};
use ept_trace::report::{Format, Report};
use ept_trace::sink::Sink as _;
use ept_trace::source::Skipped;
use tests::{Cell, observations};

const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };
const FORMATS: [(Format, &str); 5] = [
    (Format::Text { colour: false }, "txt"),
    (Format::Junit, "xml"),
    (Format::Tap, "tap"),
    (Format::Sarif, "sarif"),
    (Format::Html, "html"),
];

/// A file, as it is given to `analyze`.
struct File {
    name: &'static str,
    events: Vec<Event>,
    skipped: Skipped,
}

fn file(name: &'static str, events: Vec<Event>) -> File {
    File { name, events, skipped: Skipped::default() }
}

fn report(format: Format, files: &[File], shape: &[LevelShape]) -> String {
    let mut out = vec![];
    let mut report = Report::new(&mut out, format);
    let mut analysis = Analysis::default();
    for file in files {
        analysis.forget_machine();
        report.source(file.name).unwrap();
        report.skipped(&file.skipped).unwrap();
        for event in &file.events {
            report.event(&analysis.judge(event.clone())).unwrap();
        }
    }
    analysis.summary_mut().shape = shape.to_vec();
    report.finish(analysis.summary()).unwrap();
    String::from_utf8(out).unwrap()
}

fn clean() -> Vec<File> {
    vec![file("vmx5-6.12.jsonl", VMX5.corpus().unwrap())]
}

fn nested() -> Vec<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/nested-vmx5-6.12.jsonl");
    vec![file("nested-vmx5-6.12.jsonl", observations(&path).unwrap())]
}

/// What was observed, with faults: a wrong decision, a wrong walk length, an MSR that could not be
/// read, a loss, complaints, and lines that are none.
fn faulty() -> Vec<File> {
    let mut events = VMX5.corpus().unwrap();
    let is_5 = |level: Option<u8>| level == Some(5);
    let mut decided = 0;
    let mut loaded = 0;
    for event in &mut events {
        match &mut event.kind {
            EventKind::Facts(facts) => {
                facts.hardware.ept_vpid_cap = Fact::unknown("no /dev/cpu/0/msr");
            }
            EventKind::Decision(decision) if is_5(decision.after.root_level) => {
                decided += 1;
                if decided > 4 {
                    decision.after.root_level = Some(4);
                }
            }
            EventKind::Load(load) if load.level == 5 => {
                loaded += 1;
                if loaded == 2 {
                    load.eptp = load.eptp.map(|eptp| eptp & !0x38 | 0x18);
                }
            }
            _ => {}
        }
    }
    let time_ns = events[events.len() / 2].time_ns;
    let add = [
        EventKind::Loss { hook: "kvm_mmu_page_fault return".to_owned(), records: 7 },
        EventKind::Gap { reason: "kvm was loaded again".to_owned() },
        EventKind::Complaint {
            by: "kvm".to_owned(),
            text: "EPT: Misconfiguration. GPA 0x1000000000000".to_owned(),
        },
        EventKind::VmcsDump(VmcsDump { eptp: Some(0x1234_505e), ..VmcsDump::default() }),
    ];
    let middle = events.len() / 2;
    events.splice(middle..middle, add.map(|kind| Event { time_ns, kind }));
    let mut skipped = Skipped::default();
    skipped.note(|| "line 7: expected value at column 1".to_owned());
    vec![File { skipped, ..file("vmx5-6.12-faulty.jsonl", events) }]
}

fn shape() -> Vec<LevelShape> {
    [(5, 1, 0), (4, 1, 0), (3, 2, 1), (2, 9, 311), (1, 14, 2_907)]
        .map(|(level, tables, leaves)| LevelShape { vm: 1, level, tables, leaves })
        .to_vec()
}

/// Pages to look at, in `target/tmp/reports`.
#[test]
#[ignore = "writes files for a person, and asserts nothing"]
fn reports_to_look_at() {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    fs::create_dir_all(&to).unwrap();
    for (name, files) in [("clean", clean()), ("faulty", faulty()), ("nested", nested())] {
        for (format, ending) in FORMATS {
            let shape = if name == "clean" { vec![] } else { shape() };
            fs::write(to.join(format!("{name}.{ending}")), report(format, &files, &shape)).unwrap();
        }
    }
    println!("{}", to.display());
}
