//! KTAP version 1, by the grammar of `Documentation/dev-tools/ktap.rst`, and as the kernel's own
//! `kunit.py parse` goes by it. There is no crate that reads it.

use ept_trace::report::Format;

use super::files::{checked, clean, faulty};
use super::{report, runs};

/// A test, and those within it.
#[derive(Debug)]
struct Test {
    ok: bool,
    name: String,
    directive: Option<String>,
    subtests: Vec<Test>,
}

/// Reads a file; panics where the grammar does not hold.
fn read(text: &str) -> Vec<Test> {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    let tests = tests(&lines, &mut at, "");
    assert_eq!(at, lines.len(), "something follows the last test: {:?}", lines.get(at));
    tests
}

/// A version, then a plan, then as many results, each after its subtests; diagnostic lines anywhere.
fn tests(lines: &[&str], at: &mut usize, indent: &str) -> Vec<Test> {
    assert_eq!(lines[*at].strip_prefix(indent), Some("KTAP version 1"));
    *at += 1;
    let deeper = format!("{indent}  KTAP version ");
    let mut planned = None;
    let mut tests = vec![];
    let mut subtests = vec![];
    while planned != Some(tests.len()) {
        let line = lines.get(*at).unwrap_or_else(|| panic!("{planned:?} are planned"));
        if line.starts_with(&deeper) {
            subtests = self::tests(lines, at, &format!("{indent}  "));
            continue;
        }
        let line = line.strip_prefix(indent).unwrap_or_else(|| panic!("indentation: {line}"));
        *at += 1;
        if line.starts_with('#') {
            continue;
        }
        if let Some(count) = line.strip_prefix("1..") {
            assert_eq!(planned, None, "one plan");
            planned = Some(count.parse().expect(line));
            continue;
        }
        let test = result(line, tests.len() + 1, std::mem::take(&mut subtests));
        tests.push(test);
    }
    tests
}

fn result(line: &str, number: usize, subtests: Vec<Test>) -> Test {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ").unwrap_or_else(|| panic!("no result: {line}"))),
    };
    let rest = rest.strip_prefix(&format!("{number} - ")).unwrap_or_else(|| panic!("{line}"));
    let (name, directive) = match rest.split_once(" # ") {
        Some((name, directive)) => (name, Some(directive.to_owned())),
        None => (rest, None),
    };
    assert!(!name.contains('#'), "{line}");
    let known =
        |directive: &String| ["SKIP ", "XFAIL "].iter().any(|word| directive.starts_with(word));
    assert!(directive.iter().all(known), "{line}");
    Test { ok, name: name.to_owned(), directive, subtests }
}

#[test]
fn every_run_holds_to_the_grammar() {
    for (name, files) in runs() {
        assert!(!read(&report(Format::Ktap, &files)).is_empty(), "{name}");
    }
}

#[test]
fn scenarios_are_subtests_and_rules_are_tests() {
    let tests = read(&report(Format::Ktap, &checked()));
    let test = |name: &str| tests.iter().find(|test| test.name == name).expect(name);
    let cases: Vec<_> = test("huge").subtests.iter().map(|case| (&*case.name, case.ok)).collect();
    assert_eq!(cases, [("2 MiB", true), ("1 GiB", true), ("split _1", false)]);
    assert!(!test("huge").ok && test("memory").ok);
    let skipped = test("huge").subtests[1].directive.as_deref();
    assert_eq!(skipped, Some("SKIP no page of 1 GiB"));
    assert_eq!(test("EPT202 eptp-level").directive.as_deref(), Some("XFAIL known: our patch"));
    assert!(!test("EPT103 root-level").ok && test("EPT103 root-level").directive.is_none());
}

#[test]
fn what_is_wrong_fails_with_its_evidence_before_it() {
    let text = report(Format::Ktap, &faulty());
    let failed = |text: &str| -> Vec<String> {
        read(text).into_iter().filter(|test| !test.ok).map(|test| test.name).collect()
    };
    assert_eq!(failed(&text), ["completeness", "EPT103 root-level", "EPT202 eptp-level"]);
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    let evidence = place("#       MAXPHYADDR = 52  (vcpu->arch.maxphyaddr)");
    assert!(evidence < place("- EPT103 root-level"), "{text}");
    assert_eq!(failed(&report(Format::Ktap, &clean())), Vec::<String>::new());
}
