//! Under load, in the lab: what is lost is told and counted, and what is wrong is found all the same.
#![cfg(feature = "lab")]

use std::collections::BTreeSet;

use ept_trace::model::EventKind;
use serde_json::Value;
use tests::lab::{json_lines, lab, lab_with};
use tests::{Cell, observations};

const SVM: Cell = Cell { cpu: "svm", kernel: "6.12" };

/// The counts at the end, of which each hook's must add up.
fn summary(lines: &[Value]) -> &Value {
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["type"], "summary");
    for hook in summary["hooks"].as_array().expect("hooks") {
        let count = |name: &str| hook[name].as_u64().expect("a count");
        let sum = ["delivered", "filtered", "dropped", "missed"].map(count).iter().sum::<u64>();
        assert_eq!(count("fired"), sum, "{hook}");
    }
    summary
}

/// Calls of this fate, over all hooks.
fn sum(summary: &Value, fate: &str) -> u64 {
    let hooks = summary["hooks"].as_array().expect("hooks");
    hooks.iter().filter_map(|hook| hook[fate].as_u64()).sum()
}

/// What was told to be lost.
fn told(lines: &[Value]) -> u64 {
    lines.iter().filter_map(|line| line["records"].as_u64()).sum()
}

#[test]
fn a_storm_that_the_rings_have_no_room_for_is_told_counted_and_incomplete() {
    let script = "
        ept-trace watch -q -j --ring 4 --frames --history -o /out/events.ept -- \
            ept-trace check --unwatched --scenario storm --time 5 > /out/watch.jsonl
    ";
    let run = lab("storm-lost", SVM, script);
    assert_eq!(run.code, Some(3), "{}", run.output);
    assert!(run.output.contains("scenario storm: passed"), "{}", run.output);
    let lines = json_lines(&run.out.join("watch.jsonl"));
    let summary = summary(&lines);
    assert!(told(&lines) > 0, "{summary}");
    assert_eq!(summary["lost"], told(&lines), "{summary}");
    assert_eq!(sum(summary, "dropped") + sum(summary, "missed"), told(&lines), "{summary}");
    assert_eq!(summary["mismatches"], 0, "{summary}");
    let kept = observations(&run.out.join("events.ept")).expect("observations");
    assert!(kept.iter().any(|event| matches!(event.kind, EventKind::Loss { .. })));
}

#[test]
fn what_is_wrong_is_found_although_the_rings_overflow() {
    // A watcher that is stopped: first what is right fills the rings, then KVM is changed. SVM takes the
    // level that is forced, so the guests do not mind.
    let script = "
        ept-trace watch -q -j --ring 4 --frames --history > /out/watch.jsonl & watcher=$!
        all=$(ept-trace watch --list --frames --history | grep -c '^+.*probe kvm')
        until [ \"$(wc -l < /sys/kernel/tracing/kprobe_events)\" = $all ]; do sleep 0.2; done; sleep 3
        kill -STOP $watcher
        ept-trace check --unwatched --scenario storm
        poke max_tdp_level 1 05 04
        ept-trace check --unwatched --scenario churn
        poke max_tdp_level 1 04 05
        kill -CONT $watcher; sleep 2; kill -INT $watcher; wait $watcher
    ";
    let run = lab_with(&["--pokes"], "storm-wrong", SVM, script);
    assert_eq!(run.code, Some(1), "{}", run.output);
    for scenario in ["storm", "churn"] {
        assert!(run.output.contains(&format!("scenario {scenario}: passed")), "{}", run.output);
    }
    let lines = json_lines(&run.out.join("watch.jsonl"));
    let summary = summary(&lines);
    assert_eq!(summary["lost"], told(&lines), "{summary}");
    let hooks = summary["hooks"].as_array().expect("hooks");
    let decisions =
        hooks.iter().find(|hook| hook["hook"] == "kvm_init_mmu return").expect("a hook");
    assert!(
        decisions["dropped"].as_u64() > Some(0),
        "nothing else would have kept them out: {summary}"
    );
    let mismatches = lines.iter().filter(|line| line["verdict"] == "mismatch");
    let rules: BTreeSet<_> = mismatches.filter_map(|line| line["rule"].as_str()).collect();
    assert_eq!(rules, BTreeSet::from(["EPT104"]), "{}", run.output);
}
