use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event as Xml;

use super::digest::{Change, Digest, Ended};
use super::outcome::{Outcome, sentence};
use super::*;
use crate::model::{
    Decision, Event, EventKind, Evidence, HookStatus, Judgement, Load, MmuState, SpteChange,
    Verdict,
};

fn judged(time_ns: u64, kind: EventKind, judgements: Vec<Judgement>) -> Judged {
    let event = Event { time_ns, kind };
    Judged { judgements: judgements.into(), ..Judged::of(event) }
}

fn says(verdict: Verdict, message: String) -> Judgement {
    let evidence = vec![Evidence::new("root level", 4, "the test")];
    Judgement { rule: "EPT103", verdict, message: message.into(), evidence, known: None }
}

fn decided(vm: u32, maxphyaddr: u32, level: u8) -> EventKind {
    let after = MmuState { root_level: Some(level), ..MmuState::default() };
    let decision = Decision { vm, maxphyaddr: Some(maxphyaddr), after, ..Decision::default() };
    EventKind::Decision(Box::new(decision))
}

/// Words that are another kind for each number.
fn words(number: u64) -> String {
    number.to_string().bytes().map(|digit| char::from(digit + b'a' - b'0')).collect()
}

#[test]
fn a_flood_of_kinds_is_counted_and_hides_no_mismatch() {
    const FLOOD: u64 = 100_000;
    let mut digest = Digest::default();
    for number in 0..FLOOD {
        let missing = says(Verdict::Undetermined, words(number));
        digest.event(&judged(number, decided(1, 36, 4), vec![missing]));
    }
    let wrong = || says(Verdict::Mismatch, "GPA 0x1000: wrong".to_owned());
    digest.event(&judged(FLOOD, decided(1, 36, 4), vec![wrong()]));

    assert_eq!(digest.rules()["EPT103"].undetermined, FLOOD);
    let kept = digest.findings.with(Verdict::Undetermined);
    assert!(kept.len() < 100, "{}", kept.len());
    let counted: u64 = kept.iter().map(|group| group.count).sum();
    assert_eq!(counted + digest.findings.left_out(Verdict::Undetermined), FLOOD);
    assert_eq!(digest.findings.with(Verdict::Mismatch).len(), 1);
    assert_eq!(Outcome::of(&digest, &Summary::default()), Outcome::Mismatch);
}

#[test]
fn the_same_finding_at_other_addresses_is_one_kind() {
    let mut digest = Digest::default();
    for number in 0..1000 {
        let wrong = says(Verdict::Mismatch, format!("GPA {:#x}: frozen", number * 4096));
        digest.event(&judged(number + 7, decided(1, 36, 4), vec![wrong]));
    }
    let [group] = &*digest.findings.with(Verdict::Mismatch) else { panic!("one kind") };
    assert_eq!((group.count, group.first_ns, group.last_ns), (1000, 7, 1006));
    assert_eq!(group.first.message.as_str(), "GPA 0x0: frozen");
    assert_eq!(group.next.len(), 2);
    assert_eq!(group.next[1].message.as_str(), "GPA 0x2000: frozen");
}

#[test]
fn a_flood_of_vcpus_and_changes_is_counted() {
    let mut digest = Digest::default();
    for vm in 1..=1000 {
        digest.event(&judged(vm.into(), decided(vm, 36, 4), vec![]));
    }
    assert_eq!(digest.timeline.of(0).count(), 200);
    assert_eq!(digest.timeline.left_out, 800);
    for number in 0..1000 {
        digest.event(&judged(2000 + number, decided(1, 36 + (number % 2) as u32, 4), vec![]));
    }
    let first = digest.timeline.of(0).next().unwrap();
    assert_eq!(first.decisions, 1001);
    assert_eq!(first.steps.len() as u64 + first.more_steps, 1000, "the first of them is none");
}

#[test]
fn what_does_not_change_is_no_step() {
    let mut digest = Digest::default();
    for (time_ns, maxphyaddr, level) in [(1, 36, 4), (2, 36, 4), (3, 49, 5), (4, 49, 5), (5, 36, 4)]
    {
        digest.event(&judged(time_ns, decided(1, maxphyaddr, level), vec![]));
    }
    for (time_ns, eptp) in [(6, 0x1005e), (7, 0x1005e), (8, 0x2005e)] {
        let load = Load { vm: 1, eptp: Some(eptp), level: 5, ..Load::default() };
        digest.event(&judged(time_ns, EventKind::Load(Box::new(load)), vec![]));
    }
    digest.event(&judged(9, EventKind::VmGone { vm: 1 }, vec![]));
    let [vcpu] = &*digest.timeline.of(0).collect::<Vec<_>>() else { panic!("one vCPU") };
    let times: Vec<_> = vcpu.steps.iter().map(|step| step.time_ns).collect();
    assert_eq!(times, [1, 3, 5, 6, 8]);
    assert!(matches!(vcpu.steps[3].change, Change::Handed { value: 0x1005e, .. }));
    assert_eq!((vcpu.decisions, vcpu.gone_ns), (5, Some(9)));
}

#[test]
fn losses_and_long_texts_are_bounded_and_counted() {
    let mut digest = Digest::default();
    let long = "x".repeat(1 << 16);
    for time_ns in 0..1000 {
        let loss = EventKind::Loss { hook: long.clone(), records: u64::MAX };
        digest.event(&judged(time_ns, loss, vec![]));
        let complaint = EventKind::Complaint { by: "kvm".to_owned(), text: words(time_ns) };
        digest.event(&judged(time_ns, complaint, vec![]));
    }
    let status = HookStatus { hook: long.clone(), attached: true, how: long };
    let hooks = EventKind::Hooks { hooks: vec![status; 1000], not_seen: vec![String::new(); 1000] };
    digest.event(&judged(0, hooks, vec![]));
    let source = &digest.sources[0];
    let not_seen = source.not_seen();
    assert_eq!((not_seen.len(), &*not_seen[100]), (101, "and 900 more times"));
    assert!(not_seen.iter().all(|line| line.len() < 600));
    assert_eq!(source.lost, u64::MAX);
    assert_eq!(digest.complaints.count(), 1000);
    assert!(digest.complaints.first().len() <= 100);
    let hooks = source.hooks.as_ref().unwrap();
    assert!(hooks.hooks.len() <= 100 && hooks.not_seen.len() <= 100);
}

#[test]
fn what_is_said_of_many_alike_is_counted_with_what_is_said_of_one() {
    let mut digest = Digest::default();
    let shared: &[_] = vec![says(Verdict::Ok, "as all".to_owned())].leak();
    for time_ns in 1..=3 {
        let event = Event { time_ns, kind: EventKind::End };
        digest.event(&Judged { judgements: shared.into(), ..Judged::of(event) });
    }
    digest.event(&judged(4, EventKind::End, vec![says(Verdict::Ok, "its own".to_owned())]));
    digest.event(&judged(5, EventKind::End, vec![says(Verdict::Advisory, "its own".to_owned())]));
    let counts = digest.rules()["EPT103"];
    assert_eq!((counts.ok, counts.advisory, counts.all()), (4, 1, 5));
    assert_eq!(digest.total(), counts);
}

#[test]
fn changes_of_entries_are_counted_and_make_no_lane() {
    let mut digest = Digest::default();
    let change = || EventKind::SpteChange(SpteChange { vm: Some(1), ..SpteChange::default() });
    digest.event(&judged(1, change(), vec![]));
    assert_eq!(digest.timeline.of(0).count(), 0);
    digest.event(&judged(2, change(), vec![says(Verdict::Mismatch, "wrong".to_owned())]));
    assert_eq!(digest.timeline.of(0).next().unwrap().marks.len(), 1);
    assert_eq!(digest.events.iter().collect::<Vec<_>>(), [("changes of entries", &2)]);
    assert_eq!(digest.walks, BTreeMap::<Ended, u64>::new());
}

/// A few that cannot be judged, of many that could, make nothing undetermined.
#[test]
fn undetermined_is_what_never_could_be_judged() {
    let mut digest = Digest::default();
    let raced = says(Verdict::Undetermined, "a race".to_owned());
    digest.event(&judged(1, decided(1, 36, 4), vec![raced]));
    assert_eq!(Outcome::of(&digest, &Summary::default()), Outcome::Undetermined);
    digest.event(&judged(2, decided(1, 36, 4), vec![says(Verdict::Ok, String::new())]));
    let summary = Summary { decisions: 2, ..Summary::default() };
    assert_eq!(
        sentence(&digest, &summary),
        "clean: 2 decisions, 0 walks, nothing wrong; 1 judgement undetermined"
    );
    let lost = Summary { lost: 1, ..summary };
    assert_eq!(Outcome::of(&digest, &lost), Outcome::Incomplete);
}

/// What `junit-10.xsd` of Jenkins' plugin `xunit` knows, as far as it is used.
const KNOWN: [(&str, &[&str]); 9] = [
    ("testsuites", &["name", "tests", "failures", "errors"]),
    ("testsuite", &["name", "tests", "failures", "errors", "skipped", "time"]),
    ("properties", &[]),
    ("property", &["name", "value"]),
    ("testcase", &["name", "classname", "time"]),
    ("failure", &["type", "message"]),
    ("error", &["type", "message"]),
    ("skipped", &["type", "message"]),
    ("system-out", &[]),
];

#[test]
fn junit_has_what_the_schema_knows_and_no_more() {
    let mut out = vec![];
    let mut report = Report::new(&mut out, Format::Junit);
    for verdict in [Verdict::Ok, Verdict::Advisory, Verdict::Undetermined, Verdict::Mismatch] {
        report.source(&verdict.to_string()).unwrap();
        let judgement = says(verdict, "<said> & \"done\"".to_owned());
        report.event(&judged(1, decided(1, 36, 4), vec![judgement])).unwrap();
        let loss = EventKind::Loss { hook: "h".to_owned(), records: 1 };
        report.event(&judged(2, loss, vec![])).unwrap();
    }
    report.finish(&Summary::default()).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut reader = Reader::from_str(&text);
    let mut seen = 0;
    loop {
        match reader.read_event().unwrap() {
            Xml::Start(element) | Xml::Empty(element) => {
                let name = element.name().as_ref().to_owned();
                let known = KNOWN.iter().find(|(known, _)| *known == name);
                let (_, known) = known.unwrap_or_else(|| panic!("{name}"));
                for attribute in element.attributes() {
                    let key = attribute.unwrap().key.as_ref().to_owned();
                    assert!(known.contains(&&*key), "{name} {key}");
                }
                seen += 1;
            }
            Xml::Eof => break,
            _ => {}
        }
    }
    assert!(seen > 4 * 31, "{seen}");
}
