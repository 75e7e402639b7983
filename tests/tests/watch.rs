//! `watch` in the lab, while modules and VMs come and go, and when it shows only what is wrong.
#![cfg(feature = "lab")]

use std::fs;

use serde_json::Value;
use tests::Cell;
use tests::lab::{Run, lab};

const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };
const SVM: Cell = Cell { cpu: "svm", kernel: "6.12" };
const SVM_LA48: Cell = Cell { cpu: "svm-la48", kernel: "6.12" };

/// What `watch -j` wrote; the commands under it print too.
fn watched(run: &Run) -> Vec<Value> {
    let text = fs::read_to_string(run.out.join("watch.jsonl")).expect("written");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// The counts of the summary, which must have nothing wrong, unknown or lost.
fn nothing_wrong(lines: &[Value]) {
    let summary = lines.last().expect("a summary");
    let counts = ["mismatches", "undetermined", "lost"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(0); 3], "{summary}");
}

fn counts_of<'a>(lines: &'a [Value], hook: &str) -> &'a Value {
    let summary = lines.last().expect("a summary");
    let hooks = summary["hooks"].as_array().expect("hooks");
    hooks.iter().find(|counts| counts["hook"] == hook).unwrap_or_else(|| panic!("{summary}"))
}

#[test]
fn modules_come_and_go_under_a_watch_that_began_before_them() {
    // Decisions that follow on a load at once must not be held against the module before; the
    // probe inside a function is set when its module has been looked at, so that comes later.
    let script = "
        modprobe -r kvm_intel; modprobe -r kvm
        ept-trace watch -j -- sh -c '
            drive() { ept-trace check --quiet --maxphyaddr 36,52 --vcpus 1; }
            modprobe kvm_intel && drive && sleep 3 && drive &&
            modprobe -r kvm_intel && modprobe kvm_intel ept=0 && drive &&
            modprobe -r kvm_intel && modprobe -r kvm && modprobe kvm_intel nested=0 &&
            drive && sleep 3 && drive' > /out/watch.jsonl
    ";
    let run = lab("come-and-go", VMX5, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let lines = watched(&run);
    nothing_wrong(&lines);
    let mut modes: Vec<_> = lines.iter().filter_map(|line| line["mode"].as_str()).collect();
    modes.dedup();
    assert_eq!(modes, ["tdp", "soft", "tdp"]);
    let seen = |what: &str| lines.iter().filter(|line| line["what"] == what).count();
    assert_eq!(seen("kvm_configure_mmu"), 3);
    // How fast a module comes back decides whether its hook was set in time.
    assert!((1..=3).contains(&seen("hardware_setup")));

    // Where the EPTP is written is not known without the module, and the stream says so.
    let mut probe: Vec<_> = of_type(&lines, "hook")
        .into_iter()
        .filter(|line| line["hook"] == "vmwrite EPT_POINTER")
        .map(|line| line["attached"].as_bool().expect("a bool"))
        .collect();
    probe.dedup();
    assert_eq!((probe.first(), probe.last()), (Some(&false), Some(&true)), "{probe:?}");
    let time = |line: &Value| line["time_ns"].as_u64().expect("a time");
    let eptps = of_type(&lines, "eptp");
    let soft = lines.iter().find(|line| line["mode"] == "soft").map(time).expect("shadow paging");
    let (before, after): (Vec<&Value>, Vec<&Value>) =
        eptps.into_iter().partition(|line| time(line) < soft);
    for eptps in [before, after] {
        let mut levels: Vec<_> = eptps.iter().filter_map(|line| line["level"].as_u64()).collect();
        levels.sort_unstable();
        levels.dedup();
        assert_eq!(levels, [4, 5]);
    }
}

#[test]
fn vms_that_are_killed_are_gone_and_the_next_ones_are_others() {
    let script = "
        ept-trace watch -j -- sh -c '
            for round in 1 2 3; do
                ept-trace check --quiet --random 1000 & guests=$!
                until ls -l /proc/$guests/fd | grep -q kvm-vcpu; do sleep 0.1; done
                sleep 0.3; kill -9 $guests; wait $guests
            done
            ept-trace check --quiet --maxphyaddr 36 --vcpus 1' > /out/watch.jsonl
    ";
    let run = lab("killed", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let lines = watched(&run);
    nothing_wrong(&lines);
    let number = |line: &Value| line["vm"].as_u64().expect("a number");
    let gone: Vec<_> = of_type(&lines, "vm_gone").into_iter().map(number).collect();
    let mut seen: Vec<_> = of_type(&lines, "decision").into_iter().map(number).collect();
    seen.sort_unstable();
    seen.dedup();
    let mut once = gone.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), gone.len(), "a VM goes once");
    assert_eq!(once, seen, "and every one goes");
    // One for each round that was cut short, and those of the last command.
    assert!(gone.len() > 3, "{}", gone.len());
}

#[test]
fn what_is_right_is_dropped_in_the_kernel_and_counted() {
    let script = "
        ept-trace watch -j --mismatches -- \
            ept-trace check --quiet --maxphyaddr 36,52 --guest-phys-bits 0 > /out/watch.jsonl
    ";
    let run = lab("mismatches", SVM_LA48, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let lines = watched(&run);
    nothing_wrong(&lines);
    let decisions = of_type(&lines, "decision");
    assert!(!decisions.is_empty());
    for line in &decisions {
        assert_eq!((&line["maxphyaddr"], &line["verdict"]), (&52.into(), &"advisory".into()));
    }
    let counts = counts_of(&lines, "kvm_init_mmu return");
    let count = |name: &str| counts[name].as_u64().expect("a count");
    assert_eq!(count("delivered"), decisions.len() as u64);
    assert!(count("filtered") >= 10, "{counts}");
    assert_eq!(count("fired"), count("delivered") + count("filtered"));
    let loads = counts_of(&lines, "kvm_amd:svm_load_mmu_pgd");
    assert_eq!((&loads["delivered"], &loads["dropped"]), (&0.into(), &0.into()), "{loads}");
    assert_eq!(loads["fired"], loads["filtered"]);
}

#[test]
fn walks_that_are_right_are_dropped_in_the_kernel_and_counted() {
    let script = "
        ept-trace watch -j --mismatches --frames -- \
            ept-trace check --quiet --scenario memory,mmio > /out/watch.jsonl
    ";
    let run = lab("mismatches-walks", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let lines = watched(&run);
    nothing_wrong(&lines);
    assert_eq!(of_type(&lines, "walk").len(), 0, "what is ok is not shown");
    let counts = counts_of(&lines, "kvm_mmu_page_fault return");
    let count = |name: &str| counts[name].as_u64().expect("a count");
    // MMIO is left to userspace.
    assert!(count("delivered") >= 50, "{counts}");
    assert!(count("filtered") >= 200, "{counts}");
    assert_eq!(count("fired"), count("delivered") + count("filtered"));
}
