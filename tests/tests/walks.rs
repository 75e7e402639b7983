//! The walk oracle against the CPUs of the lab themselves, without a kernel.
#![cfg(feature = "lab")]

use tests::lab::xtask;

/// Other cases than `cargo xtask walks` has by itself, and few: an ordinary run of the tests.
fn walks(cpu: &str) {
    let args = ["walks", "--cpu", cpu, "--seed", "1000", "--cases", "1500"];
    let output = xtask().args(args).output().expect("xtask can be started");
    let text = tests::text(&output);
    assert!(output.status.success(), "{text}");
    // That there were cases, and some of them went each way.
    assert!(text.contains("1500 cases: ") && text.contains(" 0 unexplained"), "{text}");
    let ends = match cpu {
        "vmx" | "vmx5" => ["accessed", "entry refused", "misconfiguration", "violation"].as_slice(),
        _ => &["accessed", "nested fault", "page fault"],
    };
    assert!(ends.iter().all(|end| text.contains(end)), "{text}");
}

#[test]
fn npt_of_5_levels() {
    walks("svm");
}

#[test]
fn npt_of_4_levels() {
    walks("svm-la48");
}

#[test]
fn ept_of_4_levels() {
    walks("vmx");
}

#[test]
fn ept_of_4_and_5_levels() {
    walks("vmx5");
}
