//! `analyze` as a user calls it, on the corpus of logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::{product, text};

fn log(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/logs").join(file)
}

fn analyze(files: &[&str], options: &[&str]) -> Output {
    let mut command = Command::new(product());
    command.arg("analyze").args(files.iter().map(|file| log(file))).args(options);
    command.output().expect("it can be started")
}

/// With the facts of a cell.
fn analyze_with(cell: &str, files: &[&str], options: &[&str]) -> Output {
    let facts = log(&format!("{cell}/facts.json"));
    let facts = ["--kernel-facts", facts.to_str().expect("a path of ours")];
    analyze(files, &[&facts, options].concat())
}

#[test]
fn the_exit_code_tells_what_came_of_it() {
    let code = |output: Output| output.status.code();
    let fault = "fault-entry-svm-6.12/trace.dat";
    assert_eq!(code(analyze_with("svm-6.12", &["svm-6.12/trace.dat"], &[])), Some(0));
    assert_eq!(code(analyze_with("svm-6.12", &[fault], &[])), Some(1));
    assert_eq!(code(analyze_with("svm-6.12", &["svm-6.12/trace.lost.txt.gz"], &[])), Some(3));
    assert_eq!(code(analyze(&["README.md"], &[])), Some(5));
    assert_eq!(code(analyze(&["svm-6.12/trace.raw.txt.gz"], &[])), Some(5));
    assert_eq!(code(analyze(&[], &[])), Some(2));
    // What is wrong in one file is not lost by another that cannot be read.
    assert_eq!(code(analyze_with("svm-6.12", &["README.md", fault], &[])), Some(1));
}

#[test]
fn what_a_log_does_not_tell_is_asked_for() {
    let said = text(&analyze(&["vmx5-6.12/trace.dat"], &[]));
    assert!(said.contains("undetermined") && said.contains("--kernel-facts"), "{said}");
    let said = text(&analyze(&["vmx5-6.12/trace.dat"], &["--ept-cap", "f01067341c1"]));
    assert!(said.starts_with("clean"), "{said}");
    let four_levels = ["--ept-cap", "f0106734141"];
    let said = text(&analyze(&["vmx5-6.12/trace.dat"], &four_levels));
    assert!(said.starts_with("MISMATCH") && said.contains("EPT103"), "{said}");
}

#[test]
fn the_standard_input_is_read_like_a_file() {
    let file = fs::File::open(log("svm-6.12/trace.v6.dat.zst")).expect("it is there");
    let mut command = Command::new(product());
    let output = command.args(["analyze", "-", "--npt", "5"]).stdin(file).output();
    let output = output.expect("it can be started");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn files_of_one_incident_are_merged() {
    // The fault of the kernel's log came before the run that was traced.
    let files = ["moved-vmx5-6.12/trace.dat", "fault-pointer-vmx5-6.12/dmesg.txt.gz"];
    let said = text(&analyze_with("vmx5-6.12", &files, &["--format", "events"]));
    let times: Vec<f64> = said
        .lines()
        .filter(|line| line.contains("  walk  ") || line.contains("  VMCS  "))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    assert!(said.contains("EPT201 MISMATCH") && times.len() > 2, "{said}");
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn every_format_is_written() {
    for (format, begin) in [
        ("text", "MISMATCH"),
        ("events", ""),
        ("json", "{\"type\":"),
        ("junit", "<?xml"),
        ("tap", "TAP version 14"),
        ("sarif", "{"),
        ("html", "<!DOCTYPE html>"),
        ("observations", "{\"time_ns\":"),
    ] {
        let files = ["fault-entry-svm-6.12/trace.dat"];
        let output = analyze_with("svm-6.12", &files, &["--format", format]);
        assert_eq!(output.status.code(), Some(1), "{format}");
        let said = text(&output);
        assert!(said.starts_with(begin), "{format}: {said}");
        assert!(format == "observations" || said.contains("EPT401"), "{format}: {said}");
    }
}

#[test]
fn a_walk_at_a_time_goes_through_the_entries_of_that_time() {
    let file = ["fault-entry-svm-6.12/trace.dat"];
    // Where the guest was last, and when, by the log itself.
    let observed = text(&analyze(&file, &["--format", "observations"]));
    let changes = observed.lines().filter(|line| line.contains("\"event\":\"spte_change\""));
    let set: Vec<serde_json::Value> =
        changes.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let leaf = set.iter().find(|change| change["gfn"] == 0x40001).expect("it was set");
    let (time_ns, entry) = (leaf["time_ns"].as_u64(), leaf["new"].as_u64());
    let at = |time_ns: u64| format!("{}.{:09}", time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let walk = |time_ns: u64| {
        text(&analyze_with("svm-6.12", &file, &["--walk", "0x40001234", "--at", &at(time_ns)]))
    };
    let (time_ns, entry) = (time_ns.expect("a number"), entry.expect("a number"));
    let frame = entry & 0x000f_ffff_ffff_f000;
    let mapped = walk(time_ns);
    assert!(mapped.contains(&format!("HPA {:#x}", frame + 0x234)), "{mapped}");
    let before = walk(time_ns - 1);
    assert!(before.contains("#NPF"), "{before}");
}
