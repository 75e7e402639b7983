//! The files that reports are written of.

use std::path::Path;
use std::time::Duration;

use ept_trace::analysis::LevelShape;
use ept_trace::model::{
    Case, CaseOutcome, Event, EventKind, Fact, Root, Run, ScenarioResult, ToldRole, VmcsDump,
};
use ept_trace::source::Skipped;
use tests::{Cell, observations};

const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };

/// A file, as it is given to `analyze`.
pub struct File {
    pub name: String,
    pub events: Vec<Event>,
    pub skipped: Skipped,
    /// Its tables, as their history would tell.
    pub shape: Vec<LevelShape>,
    /// The run of `check` that it is instead, if it is one.
    pub run: Option<Checked>,
}

/// A run of `check`.
pub struct Checked {
    pub run: Run,
    pub scenarios: Vec<ScenarioResult>,
    pub baseline: &'static str,
}

impl File {
    pub fn new(name: &str, events: Vec<Event>) -> Self {
        Self {
            name: name.to_owned(),
            events,
            skipped: Skipped::default(),
            shape: vec![],
            run: None,
        }
    }
}

/// What was observed on `vmx5`, in which nothing is wrong.
pub fn clean() -> Vec<File> {
    vec![File::new("vmx5-6.12.jsonl", VMX5.corpus().unwrap())]
}

/// The same of an L1 that runs an L2.
pub fn nested() -> Vec<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/nested-vmx5-6.12.jsonl");
    vec![File::new("nested-vmx5-6.12.jsonl", observations(&path).unwrap())]
}

/// What was observed, with faults: 8 decisions for 4 levels where 5 are called for (EPT103), an EPTP
/// of 4 levels for a root of 5 (EPT202), an MSR that could not be read (EPT106), a loss, a gap,
/// complaints, and a line that is none.
pub fn faulty() -> Vec<File> {
    let mut file = File::new("vmx5-6.12-faulty.jsonl", VMX5.corpus().unwrap());
    let mut decided = 0;
    let mut loaded = 0;
    for event in &mut file.events {
        match &mut event.kind {
            EventKind::Facts(facts) => {
                facts.hardware.ept_vpid_cap = Fact::unknown("no /dev/cpu/0/msr");
            }
            EventKind::Decision(decision) if decision.after.root_level == Some(5) => {
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
    let middle = file.events.len() / 2;
    let time_ns = file.events[middle].time_ns;
    let added = [
        EventKind::Loss { hook: "kvm_mmu_page_fault return".to_owned(), records: 7 },
        EventKind::Gap { reason: "kvm was loaded again".to_owned() },
        EventKind::Complaint {
            by: "kvm".to_owned(),
            text: "EPT: Misconfiguration. GPA 0x1000000000000".to_owned(),
        },
        EventKind::VmcsDump(VmcsDump { eptp: Some(0x1234_505e), ..VmcsDump::default() }),
    ];
    file.events.splice(middle..middle, added.map(|kind| Event { time_ns, kind }));
    file.skipped.note(|| "line 7: expected value at column 1".to_owned());
    vec![file]
}

/// The faulty run, as one of `check` in the lab: with a case that failed, one that was skipped and
/// one that could not be seen; what EPT202 finds is known, and another entry of the baseline is stale.
pub fn checked() -> Vec<File> {
    let mut files = faulty();
    let text = |text: &str| text.to_owned();
    let case =
        |name: &str, outcome| Case { name: text(name), outcome, took: Duration::from_millis(1500) };
    let scenario = |name: &str, mismatches, cases| ScenarioResult {
        name: text(name),
        cases,
        took: Duration::from_secs(4),
        mismatches,
        command: format!("ept-trace check --seed 7 --scenario {name}"),
    };
    let unseen = CaseOutcome::Incomplete(text("no root level was judged"));
    let skipped = CaseOutcome::Skipped(text("no page of 1 GiB"));
    let failed = CaseOutcome::Failed(text("0x1, not 0x2"));
    let scenarios = vec![
        scenario("decision", 8, vec![case("guests", CaseOutcome::Passed), case("levels", unseen)]),
        scenario("memory", 0, vec![case("4 KiB pages", CaseOutcome::Passed)]),
        scenario(
            "huge",
            0,
            vec![
                case("2 MiB", CaseOutcome::Passed),
                case("1 GiB", skipped),
                case("split #1", failed),
            ],
        ),
        scenario("mmio", 0, vec![case("hole", CaseOutcome::Skipped(text("no MMIO")))]),
    ];
    let run = Run {
        place: text("the lab (vmx5, emulated)"),
        cpu: text("Bochs <CPU>"),
        release: text("6.12.43"),
        command: text("ept-trace check --seed 7"),
    };
    let baseline = "[[known]]\nrule = \"EPT202\"\nreason = \"our patch\"\n\
                    [[known]]\nrule = \"EPT301\"\nreason = \"gone since\"\n";
    files[0].run = Some(Checked { run, scenarios, baseline });
    files
}

/// The same, of which nothing could be run.
pub fn cannot_run() -> Vec<File> {
    let mut files = checked();
    files[0].events.clear();
    files[0].skipped = Skipped::default();
    let why = CaseOutcome::Skipped("no KVM, no guests".to_owned());
    if let Some(checked) = &mut files[0].run {
        for scenario in &mut checked.scenarios {
            scenario.cases.iter_mut().for_each(|case| case.outcome = why.clone());
            scenario.mismatches = 0;
        }
    }
    files
}

/// A shape that tables may have.
pub fn shape() -> Vec<LevelShape> {
    let levels = [(5, 1, 0), (4, 1, 0), (3, 2, 1), (2, 9, 311), (1, 14, 2_907)];
    levels.map(|(level, tables, leaves)| LevelShape { vm: 1, level, tables, leaves }).to_vec()
}

/// What somebody would write into a file to break out of a report.
pub const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>]]>&amp;\u{202e}\
    \u{1b}[2J\u{fffe}\0\u{9b}1m# SKIP --> */}\ninjected\r\nnot ok 1 - injected\n...\u{2028}injected";

/// The faulty run, with that in every text of it.
pub fn hostile() -> Vec<File> {
    make_all_hostile(faulty())
}

/// The same of a run of `check`.
pub fn hostile_check() -> Vec<File> {
    make_all_hostile(checked())
}

fn make_all_hostile(mut files: Vec<File>) -> Vec<File> {
    for file in &mut files {
        file.name = format!("a:b/{HOSTILE}.jsonl");
        file.skipped.note(|| HOSTILE.to_owned());
        if let Some(Checked { run, scenarios, .. }) = &mut file.run {
            let hostile = || HOSTILE.to_owned();
            *run = Run { place: hostile(), cpu: hostile(), release: hostile(), command: hostile() };
            for (number, scenario) in scenarios.iter_mut().enumerate() {
                scenario.name = format!("{number}{HOSTILE}");
                scenario.command = hostile();
                for case in &mut scenario.cases {
                    case.name = hostile();
                    case.outcome = CaseOutcome::Failed(hostile());
                }
            }
        }
        for event in &mut file.events {
            make_hostile(&mut event.kind);
        }
    }
    files
}

fn make_hostile(kind: &mut EventKind) {
    let hostile = || HOSTILE.to_owned();
    match kind {
        EventKind::Hooks { hooks, not_seen } => {
            not_seen.push(hostile());
            for hook in hooks {
                hook.how = hostile();
            }
        }
        EventKind::Facts(facts) => {
            facts.release = hostile();
            facts.hardware.ept_vpid_cap = Fact::unknown(HOSTILE);
            if let Fact::Known { origin, .. } = &mut facts.kvm.max_tdp_level {
                *origin = hostile().into();
            }
        }
        EventKind::Decision(decision) => decision.observed_by = hostile(),
        EventKind::Complaint { by, text } => (*by, *text) = (hostile(), hostile()),
        EventKind::Loss { hook, .. } => hook.push_str(HOSTILE),
        EventKind::Gap { reason } => reason.push_str(HOSTILE),
        _ => {}
    }
}

/// A log that tells of a root page of 5 levels, and of the machine; of the guest's MAXPHYADDR only
/// if it is given.
pub fn log(maxphyaddr: Option<u8>) -> Vec<File> {
    let mut events = VMX5.corpus().unwrap();
    events.retain(|event| matches!(event.kind, EventKind::Facts(_)));
    let root = Root {
        pid: 4242,
        told: Some(ToldRole { level: 5, direct: true }),
        maxphyaddr: maxphyaddr.map(|bits| Fact::known(bits, "given")),
        ..Root::default()
    };
    events.push(Event { time_ns: 60_000_000_000, kind: EventKind::Root(root) });
    vec![File::new("trace.txt", events)]
}
