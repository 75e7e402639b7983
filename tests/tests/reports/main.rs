//! Reports of what was observed in the lab, as it was and with faults, read by parsers that are not
//! ours. No kernel is booted here.

mod files;
mod github;
mod html;
mod junit;
mod ktap;
mod sarif;
mod tap;
mod text;

use std::fs;
use std::path::Path;

use ept_trace::analysis::{Analysis, Baseline};
use ept_trace::report::{Format, Report};
use ept_trace::sink::Sink as _;

use files::{File, cannot_run, checked, clean, faulty, hostile, hostile_check, nested, shape};

const FORMATS: [(Format, &str); 8] = [
    (Format::Text { colour: false }, "txt"),
    (Format::Junit, "xml"),
    (Format::Tap, "tap"),
    (Format::Sarif, "sarif"),
    (Format::Html, "html"),
    (Format::Ktap, "ktap"),
    (Format::Github, "github"),
    (Format::Markdown, "md"),
];

/// A report of files, as `analyze` writes it.
fn report(format: Format, files: &[File]) -> String {
    let mut out = vec![];
    let mut report = Report::new(&mut out, format);
    let mut analysis = Analysis::default();
    for file in files {
        analysis.forget_machine();
        if let Some(checked) = &file.run {
            report.run(&checked.run).unwrap();
            let baseline = Baseline::parse(checked.baseline, |_| true).unwrap();
            analysis.accept(baseline);
            analysis.run_scenario(Some("decision"));
        } else {
            report.source(&file.name).unwrap();
        }
        report.skipped(&file.skipped).unwrap();
        for event in &file.events {
            report.event(analysis.judge(event.clone())).unwrap();
        }
        analysis.summary_mut().shape.extend(file.shape.clone());
        for scenario in file.run.iter().flat_map(|checked| &checked.scenarios) {
            report.scenario(scenario).unwrap();
        }
    }
    analysis.summary_mut().stale = analysis.stale();
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
        ("checked", checked()),
        ("hostile-check", hostile_check()),
        ("cannot-run", cannot_run()),
        ("several", [clean(), faulty(), nested()].into_iter().flatten().collect()),
        ("empty", vec![File::new("empty.jsonl", vec![])]),
    ]
}

/// Nothing of a file can steer a terminal, turn text round, or begin a line of its own.
#[test]
fn no_format_lets_text_of_a_file_steer() {
    for (format, _) in FORMATS {
        let text = report(format, &hostile()) + &report(format, &hostile_check());
        let steers =
            |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{fffe}');
        assert_eq!(text.chars().find(steers), None, "{format:?}");
        for line in text.lines() {
            assert!(!line.trim_start().starts_with("injected"), "{format:?}: {line}");
        }
        assert!(text.contains("u{202e}"), "{format:?}: it stands there by its number");
    }
}

/// Text as a reader sees it.
fn unescaped(text: &str) -> String {
    text.replace("&#58;", ":").replace('\\', "").replace("%3A", ":")
}

#[test]
fn a_loss_is_in_every_format() {
    for (format, _) in FORMATS {
        let text = unescaped(&report(format, &faulty()));
        for told in
            ["7 records of kvm_mmu_page_fault return are lost", "kvm was loaded again", "line 7"]
        {
            assert!(text.contains(told), "{format:?}: {told}");
        }
    }
}

/// Where it ran, what failed and how to repeat it, what was skipped and why, what is known and why,
/// and what of the baseline was not found.
#[test]
fn all_that_came_of_check_is_in_every_format() {
    for (format, _) in FORMATS {
        let text = unescaped(&report(format, &checked()));
        for told in [
            "the lab (vmx5, emulated)",
            "Bochs",
            "0x1, not 0x2",
            "ept-trace check --seed 7 --scenario huge",
            "no page of 1 GiB",
            "no root level was judged",
            "our patch",
            "gone since",
        ] {
            assert!(text.contains(told), "{format:?}: {told}: {text}");
        }
        let text = unescaped(&report(format, &cannot_run()));
        assert!(text.contains("skipped") || text.contains("SKIP"), "{format:?}");
        assert!(text.contains("no KVM, no") && text.contains("6.12.43"), "{format:?}: {text}");
        assert!(!text.contains("not ok"), "{format:?}");
    }
}

#[test]
fn a_stream_without_a_file_is_of_this_machine() {
    for (format, _) in FORMATS {
        let mut out = vec![];
        let mut report = Report::new(&mut out, format);
        let mut analysis = Analysis::default();
        for event in clean().remove(0).events {
            report.event(analysis.judge(event)).unwrap();
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
