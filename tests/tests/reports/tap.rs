//! TAP 14, as the crate `tap_parser` reads it.

use ept_trace::report::Format;
use tap_parser::{DirectiveKind, TapParser, TapStatement, TapTest};

use super::files::{checked, clean, faulty};
use super::{report, runs};

/// The test points; the plan must come first and be kept.
fn points<'a>(name: &str, text: &'a str) -> Vec<TapTest<'a>> {
    let mut parser = TapParser::new();
    let statements = parser.parse(text).unwrap_or_else(|err| panic!("{name}: {err}: {text}"));
    let mut plan = None;
    let mut points = vec![];
    for statement in statements {
        match statement {
            TapStatement::Plan(told) => plan = Some(told.count),
            TapStatement::TestPoint(point) => {
                assert!(plan.is_some(), "{name}");
                points.push(point);
            }
            TapStatement::Comment(_) => {}
            TapStatement::Subtest(subtest) => {
                points.push(subtest.ending);
            }
        }
    }
    assert_eq!(plan, Some(points.len()), "{name}");
    points
}

#[test]
fn every_run_is_read_and_keeps_its_plan() {
    for (name, files) in runs() {
        let text = report(Format::Tap, &files);
        assert!(text.starts_with("TAP version 14\n"), "{name}");
        for (index, point) in points(name, &text).iter().enumerate() {
            assert_eq!(point.number, Some(index + 1), "{name}");
        }
    }
}

#[test]
fn each_rule_is_a_point_with_its_evidence() {
    let text = report(Format::Tap, &faulty());
    let points = points("faulty", &text);
    let point = |name| points.iter().find(|point| point.desc == Some(name)).expect(name);
    let failed: Vec<_> =
        points.iter().filter(|point| !point.result).map(|point| point.desc).collect();
    let expected = ["completeness", "EPT103 root-level", "EPT202 eptp-level"];
    assert_eq!(failed, expected.map(Some));
    let yaml = point("EPT103 root-level").yaml.join("\n");
    assert!(yaml.contains("- \"MAXPHYADDR = 52  (vcpu->arch.maxphyaddr)\""), "{yaml}");
    let skipped = point("EPT106 capability-read").directive.as_ref().expect("a directive");
    assert!(matches!(skipped.kind, DirectiveKind::Skip));
    assert_eq!(skipped.reason, Some("undetermined: MSR 0x48c: no /dev/cpu/0/msr"));

    let text = report(Format::Tap, &clean());
    assert!(self::points("clean", &text).iter().all(|point| point.result));
}

#[test]
fn a_scenario_is_a_point_after_its_cases() {
    let text = report(Format::Tap, &checked());
    let points = points("checked", &text);
    let point = |name| points.iter().find(|point| point.desc == Some(name)).expect(name);
    assert!(point("memory").result && !point("huge").result);
    let directive = |name| point(name).directive.as_ref().expect("a directive");
    assert!(matches!(directive("mmio").kind, DirectiveKind::Skip));
    assert!(matches!(directive("EPT202 eptp-level").kind, DirectiveKind::Todo));
    assert_eq!(directive("EPT202 eptp-level").reason, Some("known: our patch"));
    for case in ["    ok 2 - 1 GiB # SKIP no page of 1 GiB\n", "    not ok 3 - split \\#1\n"] {
        assert!(text.contains(case), "{text}");
    }
}
