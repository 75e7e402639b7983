//! Annotations, as a runner takes them out of what a step prints.

use ept_trace::report::Format;

use super::files::{cannot_run, checked, clean, faulty};
use super::{report, runs};

/// An annotation: its level, title and text.
type Annotation = (String, String, String);

/// Reads annotations as the runner does (`ActionCommand.TryParseV2`): `::level key=value,...::text`.
fn read(text: &str) -> Vec<Annotation> {
    let command = |line: &str| {
        let (head, data) = line.strip_prefix("::")?.split_once("::")?;
        let (level, properties) = head.split_once(' ')?;
        let title = properties.split(',').find_map(|property| property.strip_prefix("title="))?;
        let data = data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%");
        let title = title.replace("%3A", ":").replace("%2C", ",").replace("%25", "%");
        Some((level.to_owned(), title, data))
    };
    let read = |line| command(line).unwrap_or_else(|| panic!("no annotation: {line}"));
    text.lines().map(read).collect()
}

fn titles(annotations: &[Annotation], level: &str) -> Vec<String> {
    let of_level = annotations.iter().filter(|annotation| annotation.0 == level);
    of_level.map(|annotation| annotation.1.clone()).collect()
}

#[test]
fn every_line_is_an_annotation() {
    for (name, files) in runs() {
        for (level, title, _) in read(&report(Format::Github, &files)) {
            assert!(["error", "warning", "notice"].contains(&&*level), "{name}: {level}");
            assert!(!title.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_finding_and_a_failed_case_are_errors_and_what_is_known_is_not() {
    let annotations = read(&report(Format::Github, &checked()));
    let errors = titles(&annotations, "error");
    let rule = "EPT103 root-level: MISMATCH";
    assert_eq!(errors, ["ept-trace", rule, rule, "huge: split #1 failed"]);
    let notices = titles(&annotations, "notice");
    assert!(notices.contains(&"EPT202 eptp-level: MISMATCH".to_owned()), "{notices:?}");
    assert!(notices.contains(&"huge: 1 GiB skipped".to_owned()), "{notices:?}");
    let (_, _, text) = &annotations[1];
    assert!(text.contains("\n  at ") || text.contains("\nat "), "{text}");
    assert!(text.contains("expected = 5  (replayed)"), "{text}");
    assert!(titles(&read(&report(Format::Github, &faulty())), "error").len() > 2);
}

#[test]
fn nothing_wrong_is_no_error() {
    for files in [clean(), cannot_run()] {
        let annotations = read(&report(Format::Github, &files));
        assert_eq!(titles(&annotations, "error"), Vec::<String>::new());
    }
}
