//! Reports of what was observed in the lab, as it was and with faults, read by parsers that are not
//! ours. No kernel is booted here.

mod files;
mod html;
mod junit;
mod sarif;
mod tap;
mod text;

use std::fs;
use std::path::Path;

use ept_trace::analysis::Analysis;
use ept_trace::report::{Format, Report};
use ept_trace::sink::Sink as _;

use files::{File, clean, faulty, hostile, nested, shape};

const FORMATS: [(Format, &str); 5] = [
    (Format::Text { colour: false }, "txt"),
    (Format::Junit, "xml"),
    (Format::Tap, "tap"),
    (Format::Sarif, "sarif"),
    (Format::Html, "html"),
];

/// A report of files, as `analyze` writes it.
fn report(format: Format, files: &[File]) -> String {
    let mut out = vec![];
    let mut report = Report::new(&mut out, format);
    let mut analysis = Analysis::default();
    for file in files {
        analysis.forget_machine();
        report.source(&file.name).unwrap();
        report.skipped(&file.skipped).unwrap();
        for event in &file.events {
            report.event(&analysis.judge(event.clone())).unwrap();
        }
        analysis.summary_mut().shape.extend(file.shape.clone());
    }
    report.finish(analysis.summary()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every run that the reports are looked at with.
fn runs() -> Vec<(&'static str, Vec<File>)> {
    vec![
        ("clean", clean()),
        ("faulty", faulty()),
        ("nested", nested()),
        ("hostile", hostile()),
        ("several", [clean(), faulty(), nested()].into_iter().flatten().collect()),
        ("empty", vec![File::new("empty.jsonl", vec![])]),
    ]
}

/// Nothing of a file can steer a terminal, turn text round, or begin a line of its own.
#[test]
fn no_format_lets_text_of_a_file_steer() {
    for (format, _) in FORMATS {
        let text = report(format, &hostile());
        let steers =
            |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{fffe}');
        assert_eq!(text.chars().find(steers), None, "{format:?}");
        for line in text.lines() {
            assert!(!line.trim_start().starts_with("injected"), "{format:?}: {line}");
        }
        assert!(text.contains("u{202e}"), "{format:?}: it stands there by its number");
    }
}

#[test]
fn a_loss_is_in_every_format() {
    for (format, _) in FORMATS {
        let text = report(format, &faulty());
        for told in
            ["7 records of kvm_mmu_page_fault return are lost", "kvm was loaded again", "line 7"]
        {
            assert!(text.contains(told), "{format:?}: {told}");
        }
    }
}

#[test]
fn a_stream_without_a_file_is_of_this_machine() {
    for (format, _) in FORMATS {
        let mut out = vec![];
        let mut report = Report::new(&mut out, format);
        let mut analysis = Analysis::default();
        for event in clean().remove(0).events {
            report.event(&analysis.judge(event)).unwrap();
        }
        report.finish(analysis.summary()).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("this machine"), "{format:?}");
    }
}

/// Every report of every run, in `target/tmp/reports`.
#[test]
#[ignore = "writes files for a person to look at, and asserts nothing"]
fn reports_to_look_at() {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    fs::create_dir_all(&to).unwrap();
    for (name, mut files) in runs() {
        if name == "faulty" {
            files[0].shape = shape();
        }
        for (format, ending) in FORMATS {
            fs::write(to.join(format!("{name}.{ending}")), report(format, &files)).unwrap();
        }
    }
    println!("{}", to.display());
}
