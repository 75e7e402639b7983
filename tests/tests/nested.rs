//! The guests of `check` beyond the ordinary ones, in the lab: hypervisors, a GPA of choice, and
//! CPUID at random.
#![cfg(feature = "lab")]

use std::fs;

use serde_json::Value;
use tests::Cell;
use tests::lab::{Run, json_lines, lab, xtask};

const SVM: Cell = Cell { cpu: "svm", kernel: "6.12" };
const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };

/// Hypervisors in a cell, and every entry into an L2 as the kernel itself traces it.
fn nested(test: &str, cell: Cell) -> Run {
    let script = "
        cd /sys/kernel/tracing; echo 1 > events/kvm/kvm_nested_vmenter/enable; cd /
        ept-trace check -j --scenario nested > /out/check.jsonl; code=$?
        cat /sys/kernel/tracing/trace > /out/trace
        exit $code
    ";
    let run = lab(test, cell, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("scenario nested: passed (4 of 4 passed, "), "{}", run.output);
    run
}

/// The decisions of a run, none of which may be a mismatch.
fn decisions(run: &Run) -> Vec<Value> {
    let lines = json_lines(&run.out.join("check.jsonl"));
    let summary = lines.last().expect("a summary");
    for count in ["mismatches", "undetermined", "lost"] {
        assert_eq!(summary[count], 0, "{count}: {summary}");
    }
    let decisions: Vec<_> =
        lines.iter().filter(|line| line["type"] == "decision").cloned().collect();
    assert_eq!(summary["decisions"], decisions.len());
    decisions
}

/// How many decisions were taken in this mode.
fn in_mode(decisions: &[Value], mode: &str) -> usize {
    decisions.iter().filter(|line| line["mode"] == mode).count()
}

/// The values of a field of the kernel's trace, which are hexadecimal.
fn traced(run: &Run, field: &str) -> Vec<u64> {
    let trace = fs::read_to_string(run.out.join("trace")).expect("a trace");
    trace
        .lines()
        .filter(|line| line.contains("kvm_nested_vmenter:"))
        .filter_map(|line| line.split_once(field))
        .filter_map(|(_, rest)| rest.trim_start().split([' ', ',']).next())
        .map(|value| u64::from_str_radix(value.trim_start_matches("0x"), 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn l2_runs_under_ept_of_4_and_of_5_levels() {
    let run = nested("nested-vmx5", VMX5);
    let decisions = decisions(&run);
    assert!(in_mode(&decisions, "nested") >= 4 * 2, "{decisions:?}");
    // What KVM walked for L1: the EPTPs themselves.
    let levels: Vec<_> =
        traced(&run, "nested_eptp:").iter().map(|eptp| (eptp >> 3 & 7) + 1).collect();
    assert!(levels.contains(&4) && levels.contains(&5), "{levels:?}");
    assert!(levels.iter().all(|levels| (4..=5).contains(levels)), "{levels:?}");
}

#[test]
fn l2_runs_under_npt_of_4_and_of_5_levels() {
    let run = nested("nested-svm", SVM);
    let decisions = decisions(&run);
    assert!(in_mode(&decisions, "nested") >= 4 * 2, "{decisions:?}");
    assert!(!traced(&run, "nested_cr3:").is_empty());
}

#[test]
fn what_kvm_does_not_offer_an_l1_is_said_and_is_no_failure() {
    let script = "
        ept-trace check --scenario nested --quiet; echo \"4 levels: $?\"
        modprobe -r kvm_amd; modprobe kvm_amd nested=0
        ept-trace check --scenario nested --quiet; echo \"not nested: $?\"
    ";
    let run = lab("nested-la48", Cell { cpu: "svm-la48", kernel: "6.12" }, script);
    for said in [
        "scenario nested: passed (2 of 4 passed, ",
        "MAXPHYADDR 52, 5 levels: skipped: L1 would need paging of 5 levels (LA57)",
        "4 levels: 0",
        "scenario nested: skipped (0 of 4 passed, ",
        "MAXPHYADDR 40, 4 levels: skipped: KVM shows L1 neither VMX nor SVM: load kvm_intel or",
        "not nested: 4",
    ] {
        assert!(run.output.contains(said), "{said}: {}", run.output);
    }
}

#[test]
fn random_cpuid_is_driven_and_what_kvm_refuses_is_counted() {
    let script = "
        ept-trace check -j --random 2000 --seed 5 > /out/check.jsonl
    ";
    let run = lab("random", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("--seed 5"), "{}", run.output);
    assert!(run.output.contains("guests were skipped, the first because"), "{}", run.output);
    let decisions = decisions(&run);
    // At the least one for the creation of a vCPU, and one for its CPUID.
    assert!(decisions.len() >= 4000, "{}", decisions.len());
    let widths: std::collections::BTreeSet<_> =
        decisions.iter().filter_map(|line| line["maxphyaddr"].as_u64()).collect();
    assert!(widths.len() > 60, "{widths:?}");
}

#[test]
fn a_gpa_of_choice_is_touched_or_kvm_says_why_not() {
    let script = "
        try() { ept-trace check --quiet \"$@\"; echo \"$*: $?\"; }
        try --touch 0x7fffff8 --maxphyaddr 36,52
        try --touch 0x10000000000000 --maxphyaddr 52
        try --touch 0x8000000000000 --maxphyaddr 52
        try --mixed 36,48,52 --guest-phys-bits 0
    ";
    let run = lab("touch", SVM, script);
    for said in [
        "--touch 0x7fffff8 --maxphyaddr 36,52: 0",
        "--touch 0x10000000000000 --maxphyaddr 52: 2",
        "touching GPA 0x8000000000000 did not halt: KVM_SET_USER_MEMORY_REGION",
        "--touch 0x8000000000000 --maxphyaddr 52: 2",
        "--mixed 36,48,52 --guest-phys-bits 0: 0",
    ] {
        assert!(run.output.contains(said), "{said}: {}", run.output);
    }
}

#[test]
fn a_guest_that_hangs_is_ended_and_with_touch_the_next_is_run() {
    // KVM builds tables of 4 levels, and the CPU walks 5: every access faults for ever.
    let script = "
        poke tdp_root_level 1 05 04
        ept-trace check --quiet --touch 0x40000000 --maxphyaddr 40,52 --patience 2; echo touch: $?
        ept-trace check --quiet --maxphyaddr 40,52 --patience 2; echo ordinary: $?
    ";
    let output = xtask()
        .args(["lab", "--pokes", "--cpu", SVM.cpu, "--kernel", SVM.kernel])
        .args(["--", "sh", "-c", script])
        .output()
        .expect("xtask can be started");
    let output = tests::text(&output);
    let hung: Vec<_> =
        output.lines().filter(|line| line.contains("did not halt: not within 2 s")).collect();
    assert_eq!(hung.len(), 3, "{output}");
    assert!(hung[0].contains("MAXPHYADDR 40") && hung[1].contains("MAXPHYADDR 52"), "{hung:?}");
    assert!(output.contains("touch: 1") && output.contains("ordinary: 1"), "{output}");
}

#[test]
fn tables_that_kvm_walks_with_the_wrong_depth_are_noticed() {
    // 5.10 shows L1 paging of 5 levels, but takes the levels of its NPT from L2's CR4.
    let run = lab(
        "nested-5.10",
        Cell { cpu: "svm", kernel: "5.10" },
        "ept-trace check --scenario nested --quiet --maxphyaddr 52",
    );
    assert_eq!(run.code, Some(1), "{}", run.output);
    // 4 levels passed.
    for said in [
        "scenario nested: failed (1 of 2 passed, ",
        "MAXPHYADDR 52, 5 levels: failed: L2 faults again at GPA 0x4",
    ] {
        assert!(run.output.contains(said), "{}", run.output);
    }
    let why = "L1's table of 5 levels is walked as if it had 4";
    assert!(run.output.contains("EPT503") && run.output.contains(why), "{}", run.output);
}
