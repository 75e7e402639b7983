//! One run in all the ways that it can be printed.

use super::*;
use crate::model::ToldRole;
use crate::source::trace::PageRole;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../../../../../tests/corpus/text/", $name))
    };
}

pub const REPORT_R: &str = sample!("6.1-svm/report-R.txt");
pub const REPORT_N: &str = sample!("6.1-svm/report-N.txt");
const REPORTS: [(&str, &str); 7] = [
    ("default", sample!("6.1-svm/report.txt")),
    ("-R", REPORT_R),
    ("-N", REPORT_N),
    ("-l", sample!("6.1-svm/report-l.txt")),
    ("-t", sample!("6.1-svm/report-t.txt")),
    ("-R -l", sample!("6.1-svm/report-R-l.txt")),
    ("--ts-diff", sample!("6.1-svm/report-ts-diff.txt")),
];
pub const PERF: &str = sample!("6.1-svm/perf-script.txt");
const PERF_PID_NS: &str = sample!("6.1-svm/perf-script-pid-ns.txt");
pub const TRACE: &str = sample!("6.1-svm/trace.txt");

/// Without what not all texts tell, and to the microsecond, as `-t` alone is not.
fn common(record: Record) -> Record {
    let event = match record.event {
        Tracepoint::Exit { isa, .. } => Tracepoint::Exit { vcpu: None, isa },
        other => other,
    };
    Record { time_ns: (record.time_ns + 500) / 1000, tgid: 0, event, ..record }
}

fn is_of_plugin(record: &Record) -> bool {
    matches!(record.event, Tracepoint::GetPage { .. } | Tracepoint::PrepareZap { .. })
}

#[test]
fn reports_of_one_run_agree() {
    let whole: Vec<_> = records(Kind::TraceCmd, REPORT_N).into_iter().map(common).collect();
    assert_eq!(whole.len(), 32);
    assert_eq!(whole.iter().filter(|record| is_of_plugin(record)).count(), 9);
    for (options, report) in REPORTS {
        assert_eq!(recognise(report.as_bytes()), Some(Ok(Kind::TraceCmd)), "{options}");
        let all = read(Kind::TraceCmd, report.as_bytes());
        let told: Vec<_> = all.records.into_iter().map(common).collect();
        if options.contains("-R") || options == "-N" {
            assert_eq!(all.skipped.count, 0, "{options}: {:?}", all.skipped);
            assert_eq!(told, whole, "{options}");
        } else {
            // What the plugin has printed is skipped, and nothing else.
            assert_eq!((all.skipped.count, all.skipped.first.len()), (9, 2), "{options}");
            let rest: Vec<_> =
                whole.iter().filter(|record| !is_of_plugin(record)).copied().collect();
            assert_eq!(told, rest, "{options}");
        }
    }
}

#[test]
fn the_run_is_what_it_was() {
    let told = records(Kind::TraceCmd, REPORT_R);
    let events: Vec<_> = told.iter().map(|record| record.event).collect();
    let page =
        |word| Tracepoint::GetPage { gfn: 0, role: PageRole::Word(word), created: Some(true) };
    let change = |gfn, level, new| Tracepoint::SpteChanged { as_id: 0, gfn, level, old: 0, new };
    let begin = [
        Tracepoint::WriteTscOffset { vcpu: 0, previous: 0 },
        Tracepoint::UnmapHva,
        page(0x3785),
        Tracepoint::Entry { vcpu: Some(0) },
        Tracepoint::Exit { vcpu: Some(0), isa: Some(2) },
        Tracepoint::PageFault { vcpu: Some(0), gpa: 0x1000, error_code: 0x1_0000_0014 },
        Tracepoint::SpteRequested { gfn: 1, pfn: 0x2990, level: 1 },
        page(0x3784),
        change(0, 5, 0x3feb_d827),
        page(0x3783),
        change(0, 4, 0x3feb_c827),
        page(0x3782),
        change(0, 3, 0x3feb_b827),
        page(0x3781),
        change(0, 2, 0x3feb_a827),
        change(1, 1, 0x299_0e67),
        Tracepoint::SetSpte { gfn: 1, level: 1, spte: 0x299_0e67, place: 0x3feb_a008 },
    ];
    assert_eq!(events[..begin.len()], begin);
    assert_eq!((told[2].time_ns, told[2].tid), (4_339_635_000, 95));
}

#[test]
fn perf_script_agrees_with_itself() {
    assert_eq!(recognise(PERF.as_bytes()), Some(Ok(Kind::PerfScript)));
    assert_eq!(recognise(PERF_PID_NS.as_bytes()), Some(Ok(Kind::PerfScript)));
    let with_process = records(Kind::PerfScript, PERF_PID_NS);
    assert!(with_process.iter().all(|record| (record.tid, record.tgid) == (103, 103)));
    // perf cuts nanoseconds off.
    let told: Vec<_> = with_process
        .into_iter()
        .map(|record| Record { time_ns: record.time_ns / 1000 * 1000, tgid: 0, ..record })
        .collect();
    assert_eq!(records(Kind::PerfScript, PERF), told);
}

/// Three runs of one program: the same happens in each, at other times and addresses.
#[test]
fn three_tools_tell_the_same() {
    assert_eq!(recognise(TRACE.as_bytes()), Some(Ok(Kind::Ftrace)));
    let shape = |kind, log: &str| -> Vec<_> {
        let shape = |record: Record| match record.event {
            Tracepoint::GetPage { gfn, role, created } => {
                format!("get {gfn} {} {created:?}", role.level())
            }
            Tracepoint::PrepareZap { gfn, role } => format!("zap {gfn} {}", role.level()),
            Tracepoint::SpteChanged { gfn, level, old, new, .. } => {
                format!("change {gfn} {level} {:x} {:x}", old & 0xfff, new & 0xfff)
            }
            Tracepoint::SetSpte { gfn, level, spte, place } => {
                format!("set {gfn} {level} {:x} {:x}", spte & 0xfff, place & 0xfff)
            }
            Tracepoint::SpteRequested { gfn, level, .. } => format!("request {gfn} {level}"),
            other => format!("{other:?}"),
        };
        let mut told: Vec<_> = records(kind, log).into_iter().map(shape).collect();
        // As far as all three go before lines were left out.
        told.truncate(18);
        told
    };
    let report = shape(Kind::TraceCmd, REPORT_N);
    assert_eq!(shape(Kind::PerfScript, PERF), report);
    assert_eq!(shape(Kind::Ftrace, TRACE), report);
}

/// One buffer of ftrace, as each of its options shows it.
#[test]
fn options_of_ftrace_agree() {
    const PLAIN: &str = sample!("6.12-vmx/trace.txt");
    const OPTIONS: [(&str, &str); 6] = [
        ("fields", sample!("6.12-vmx/trace.fields.txt")),
        ("latency-format", sample!("6.12-vmx/trace.latency.txt")),
        ("verbose", sample!("6.12-vmx/trace.verbose.txt")),
        ("record-tgid", sample!("6.12-vmx/trace.tgid.txt")),
        ("noirq-info", sample!("6.12-vmx/trace.no-irq.txt")),
        ("clock x86-tsc", sample!("6.12-vmx/trace.tsc.txt")),
    ];
    let told = |role: PageRole| match role {
        PageRole::Word(word) => {
            PageRole::Told(ToldRole { level: (word & 0xf) as u8, direct: word >> 7 & 1 == 1 })
        }
        told @ PageRole::Told(_) => told,
    };
    // What the text does not tell.
    let event = |record: &Record| match record.event {
        Tracepoint::GetPage { gfn, role, created } => {
            Tracepoint::GetPage { gfn, role: told(role), created }
        }
        Tracepoint::PrepareZap { gfn, role } => Tracepoint::PrepareZap { gfn, role: told(role) },
        Tracepoint::MarkMmio { gfn, .. } => Tracepoint::MarkMmio { gfn, place: 0 },
        other => other,
    };
    let plain = records(Kind::Ftrace, PLAIN);
    assert_eq!(plain.len(), 40);
    for (option, log) in OPTIONS {
        assert_eq!(recognise(log.as_bytes()), Some(Ok(Kind::Ftrace)), "{option}");
        let others = records(Kind::Ftrace, log);
        assert!(others.iter().map(event).eq(plain.iter().map(event)), "{option}");
        assert!(others.iter().map(|record| record.tid).eq(plain.iter().map(|record| record.tid)));
        // Two VMs, of which one is process 181 with its vCPUs in threads 182 and 183.
        let process = |tid| match (option, tid) {
            ("record-tgid", 181..=183) => 181,
            ("record-tgid", _) => 180,
            _ => 0,
        };
        assert!(others.iter().all(|record| record.tgid == process(record.tid)), "{option}");
        // The latency format counts from the begin of the buffer, and the TSC in cycles.
        let begin = match option {
            "latency-format" => plain[0].time_ns - others[0].time_ns,
            "clock x86-tsc" => {
                assert!(others.is_sorted_by_key(|record| record.time_ns));
                continue;
            }
            _ => 0,
        };
        for (other, plain) in others.iter().zip(&plain) {
            let time_ns = other.time_ns + begin;
            assert!(time_ns.abs_diff(plain.time_ns) <= 1000, "{option}: {other:?} {plain:?}");
        }
    }
}
