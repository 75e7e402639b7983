//! The product in the lab, on real kvm_intel and kvm_amd: every cell, and what goes wrong.
#![cfg(feature = "lab")]

use ept_trace::model::{Event, EventKind, Verdict};
use serde_json::Value;
use tests::lab::{json_lines, lab, xtask};
use tests::{Cell, judge, observations};

/// All guests in a cell, its vendor module loaded under our eyes.
fn check_cell(cpu: &'static str, kernel: &'static str) {
    let cell = Cell { cpu, kernel };
    let script = "ept-trace check -j --reload -o /out/events.ept > /out/check.jsonl";
    let run = lab(&format!("{cpu}-{kernel}"), cell, script);
    // KVM walks a nested guest's tables as if they had 4 levels.
    let has_bug = (cpu, kernel) == ("svm", "5.10");
    // CPUID may change after the vCPU has run, which is told.
    let is_changed = |rule: &str, line: &Value| {
        kernel == "5.10" && rule == "EPT108" && line["verdict"] == "advisory"
    };
    assert_eq!(run.code, Some(i32::from(has_bug)), "{}", run.output);

    let lines = json_lines(&run.out.join("check.jsonl"));
    let mut decisions = 0_u64;
    for line in lines.iter().filter(|line| line.get("rules").is_some()) {
        let rules = line["rules"].as_object().expect("rules by name");
        let is_known = |rule: &str| has_bug && rule == "EPT503" || is_changed(rule, line);
        let not_ok = rules.iter().filter(|(_, verdict)| *verdict != "ok");
        let mut not_ok = not_ok.filter(|(rule, _)| !is_known(rule));
        decisions += u64::from(line["type"] == "decision");
        // While L2 runs, L1's own root is let alone.
        if line["type"] == "decision" && line["mode"] != "nested" {
            let number = |value: &Value| value.as_u64().and_then(|value| value.try_into().ok());
            let maxphyaddr = number(&line["maxphyaddr"]).expect("bits");
            assert_eq!(line["root_level"], cell.root_level(maxphyaddr), "{line}");
            for rule in ["EPT101", "EPT102", "EPT103", "EPT104", "EPT105", "EPT110"] {
                assert_eq!(line["rules"][rule], "ok", "{rule}: {line}");
            }
            let sizes = number(&line["cpuid"]["address_sizes"]);
            if cell.is_out_of_reach(maxphyaddr, sizes) {
                let (rule, verdict) = not_ok.next().expect("the guest is not told");
                assert_eq!((rule.as_str(), verdict), ("EPT120", &Value::from("advisory")));
            }
        }
        if line["type"] == "walk" {
            // Others may have been at the tables; which is said, and is not held against KVM.
            assert!(not_ok.all(|(_, verdict)| verdict == "undetermined"), "{line}");
        } else {
            assert_eq!(not_ok.next(), None, "{line}");
        }
    }
    let walks: Vec<_> = lines.iter().filter(|line| line["type"] == "walk").collect();
    assert!(walks.len() > 1000, "{} walks", walks.len());
    let of = |outcome: &str| walks.iter().filter(|walk| walk["outcome"] == outcome).count();
    for (outcome, at_least) in [("mapped", 500), ("mmio", 50), ("denied", 1), ("not_present", 1)] {
        assert!(of(outcome) >= at_least, "{outcome}: {}", of(outcome));
    }
    for rule in ["EPT301", "EPT302", "EPT303", "EPT304", "EPT305", "EPT306", "EPT307"] {
        let ok = walks.iter().filter(|walk| walk["rules"][rule] == "ok").count();
        assert!(ok > 500, "{rule}: {ok}");
    }
    for line in lines.iter().filter(|line| !(has_bug && line["rule"] == "EPT503")) {
        let Some(message) = line["message"].as_str() else { continue };
        assert!(
            message.contains(", which may be")
                || message.contains("not told")
                || is_changed(line["rule"].as_str().unwrap_or_default(), line),
            "{message}"
        );
    }
    let lines = &lines;
    let roots = |kind: &'static str| {
        lines.iter().filter(move |line| line["type"] == kind && line["nested"] != true)
    };
    let count = |kind: &'static str| roots(kind).count();
    let (root, rules) = match cell.cpu {
        "vmx" | "vmx5" => ("eptp", &["EPT108", "EPT201", "EPT202", "EPT203", "EPT204"][..]),
        _ => ("ncr3", &["EPT108", "EPT202", "EPT203"][..]),
    };
    // Each vCPU of each guest runs on a root of its own.
    assert!(count(root) >= 31, "{}", count(root));
    for line in roots(root) {
        for rule in rules {
            assert_eq!(line["rules"][rule], "ok", "{rule}: {line}");
        }
    }
    assert!(count("vm_gone") >= 31, "{}", count("vm_gone"));
    let setups: Vec<_> = lines.iter().filter_map(|line| line["function"].as_str()).collect();
    assert_eq!(setups, [cell.hardware_setup()]);
    assert!(lines.iter().any(|line| line["what"] == "kvm_configure_mmu"));

    let summary = lines.last().expect("a summary");
    assert_eq!(summary["decisions"], decisions);
    // Each guest decides when its vCPU is created and when its CPUID is set, at the least.
    assert!(decisions >= 92, "{decisions}");
    for hook in summary["hooks"].as_array().expect("hooks") {
        let count = |name: &str| hook[name].as_u64().expect("a count");
        let sum = ["delivered", "filtered", "dropped", "missed"].map(count).iter().sum::<u64>();
        assert_eq!(count("fired"), sum, "{hook}");
        assert_eq!(count("dropped") + count("missed"), 0, "{hook}");
        if hook["hook"] == "kvm_init_mmu return" {
            assert_eq!(count("delivered"), decisions, "{hook}");
        }
    }

    // What was kept is judged as it was live.
    let kept = judge(observations(&run.out.join("events.ept")).expect("observations"));
    let again = kept.iter().filter(|judged| judged.is_decision());
    assert_eq!(again.clone().count() as u64, decisions);
    assert!(again.clone().all(|judged| judged.verdict() <= Verdict::Advisory));
    let verdicts = kept.iter().filter(|judged| matches!(judged.event.kind, EventKind::Walk(_)));
    let live: Vec<_> = walks.iter().map(|walk| walk["verdict"].clone()).collect();
    let again: Vec<_> =
        verdicts.map(|judged| serde_json::to_value(judged.verdict()).expect("a verdict")).collect();
    assert_eq!(again, live);
}

macro_rules! cells {
    ($($name:ident = $cpu:literal $kernel:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            check_cell($cpu, $kernel);
        }
    )*};
}

cells! {
    cell_svm_5_10 = "svm" "5.10",
    cell_svm_6_1 = "svm" "6.1",
    cell_svm_6_12 = "svm" "6.12",
    cell_svm_7_2 = "svm" "7.2",
    cell_svm_la48_5_10 = "svm-la48" "5.10",
    cell_svm_la48_6_1 = "svm-la48" "6.1",
    cell_svm_la48_6_12 = "svm-la48" "6.12",
    cell_svm_la48_7_2 = "svm-la48" "7.2",
    cell_vmx_5_10 = "vmx" "5.10",
    cell_vmx_6_1 = "vmx" "6.1",
    cell_vmx_6_12 = "vmx" "6.12",
    cell_vmx_7_2 = "vmx" "7.2",
    cell_vmx5_5_10 = "vmx5" "5.10",
    cell_vmx5_6_1 = "vmx5" "6.1",
    cell_vmx5_6_12 = "vmx5" "6.12",
    cell_vmx5_7_2 = "vmx5" "7.2",
}

const VMX5: Cell = Cell { cpu: "vmx5", kernel: "6.12" };
const SVM: Cell = Cell { cpu: "svm", kernel: "6.12" };

#[test]
fn tracepoints_alone_see_every_cpuid_and_the_roots() {
    let script = "ept-trace check -j --tracepoints --maxphyaddr 36,48,49,52 --vcpus 1 \
                  -o /out/events.ept > /out/check.jsonl";
    let run = lab("tracepoints", VMX5, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let lines = json_lines(&run.out.join("check.jsonl"));
    let of_type = |kind: &'static str| lines.iter().filter(move |line| line["type"] == kind);
    // One decision for each CPUID that is set: 4 values once, 3 pairs both ways, no leaf.
    assert_eq!(of_type("decision").count(), 4 + 2 * 3 * 2 + 1);
    assert_eq!(of_type("root").count(), 4 + 2 * 3 + 1, "a root for each guest");
    for line in of_type("decision").chain(of_type("root")) {
        assert_eq!(line["verdict"], "ok", "{line}");
        assert_eq!(
            line["root_level"].as_u64(),
            line["expected_level"].as_u64().or(line["level"].as_u64())
        );
    }
    assert!(of_type("not_seen").count() > 0, "what is lost is told");
}

#[test]
fn shadow_paging_is_judged_where_ept_is_off() {
    let script = "modprobe -r kvm_intel && modprobe kvm_intel ept=0 && \
                  ept-trace check -j --maxphyaddr 36,52 > /out/check.jsonl";
    let run = lab("soft", VMX5, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let mut decisions = 0_u64;
    for line in json_lines(&run.out.join("check.jsonl")) {
        if line["type"] == "decision" {
            assert_eq!(line["mode"], "soft", "{line}");
            assert_eq!((&line["root_level"], &line["verdict"]), (&3.into(), &"ok".into()));
            decisions += 1;
        }
    }
    assert!(decisions >= 18, "{decisions}");
}

#[test]
fn nothing_stays_behind_after_a_kill() {
    // The first watcher is killed with its cleaner, so that the next one has to clean up.
    let script = "
        events() { wc -l < /sys/kernel/tracing/kprobe_events; }
        all=$(ept-trace watch --list | grep -c '^+.*probe kvm')
        attached() { until [ \"$(events)\" = $all ]; do sleep 0.2; done; }
        ept-trace watch > /dev/null & watcher=$!; attached
        kill -9 $watcher; sleep 5
        echo killed: $(events)
        ept-trace watch > /dev/null & watcher=$!; attached
        kill -9 $(cat /proc/$watcher/task/$watcher/children) $watcher; sleep 1
        echo killed with its cleaner: $(events) of $all
        ept-trace watch --dry-run > /dev/null
        echo cleaned by the next: $(events)
    ";
    let run = lab("kill", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("killed: 0"), "{}", run.output);
    let left = run.output.lines().find_map(|line| line.strip_prefix("killed with its cleaner: "));
    let (left, all) = left.and_then(|left| left.split_once(" of ")).expect("a count");
    assert_eq!(left, all, "{}", run.output);
    assert_ne!(all, "0", "{}", run.output);
    assert!(run.output.contains("cleaned by the next: 0"), "{}", run.output);
}

#[test]
fn every_obstacle_is_named_with_its_exit_code() {
    let script = "
        try() { what=$1; shift; \"$@\" > /tmp/said 2>&1; echo \"$what: $?: $(tail -n 1 /tmp/said)\"; }
        mv /dev/kvm /dev/kvm.away
        try no-kvm ept-trace check
        mv /dev/kvm.away /dev/kvm
        umount /sys/kernel/debug/tracing 2>/dev/null; umount /sys/kernel/debug; umount /sys/kernel/tracing
        try no-tracefs ept-trace check --maxphyaddr 36 --vcpus 1 --quiet
        mount -t tracefs tracefs /sys/kernel/tracing
        mkdir /tmp/empty; mount --bind /tmp/empty /sys/kernel/btf
        try no-btf ept-trace watch --duration 1
        umount /sys/kernel/btf
        modprobe -r kvm_amd; modprobe -r kvm
        try no-module ept-trace check
        modprobe kvm_amd
        echo confidentiality > /sys/kernel/security/lockdown
        try lockdown ept-trace watch --duration 1
    ";
    let run = lab("obstacles", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let said = |what: &str| {
        let line = run.output.lines().find(|line| line.starts_with(&format!("{what}: ")));
        line.unwrap_or_else(|| panic!("{what}: {}", run.output))
    };
    for (what, code, hint) in [
        ("no-kvm", 4, "modprobe"),
        // A mount of our own serves as well.
        ("no-tracefs", 0, "decisions"),
        ("no-btf", 4, "CONFIG_DEBUG_INFO_BTF"),
        ("no-module", 4, "modprobe"),
        ("lockdown", 4, "lockdown=integrity"),
    ] {
        let line = said(what);
        assert!(line.starts_with(&format!("{what}: {code}: ")), "{line}");
        assert!(line.contains(hint), "{line}");
    }
}

#[test]
fn losses_are_told_and_make_the_run_incomplete() {
    // A ring of one page, and a reader that is stopped meanwhile.
    let script = "
        ept-trace watch -j --ring 4 -o /out/events.ept > /out/watch.jsonl & watcher=$!
        until [ \"$(wc -l < /sys/kernel/tracing/kprobe_events)\" -ge 9 ]; do sleep 0.2; done; sleep 3
        kill -STOP $watcher
        ept-trace check --quiet
        kill -CONT $watcher; sleep 2; kill -INT $watcher; wait $watcher
    ";
    let run = lab("loss", SVM, script);
    assert_eq!(run.code, Some(3), "{}", run.output);
    let lines = json_lines(&run.out.join("watch.jsonl"));
    let summary = lines.last().expect("a summary");
    let told: u64 = lines.iter().filter_map(|line| line["records"].as_u64()).sum();
    assert!(told > 0, "{summary}");
    assert_eq!(summary["lost"], told);
    let hooks = summary["hooks"].as_array().expect("hooks");
    let dropped: u64 = hooks.iter().filter_map(|hook| hook["dropped"].as_u64()).sum();
    assert_eq!(dropped, told);
    let kept = observations(&run.out.join("events.ept")).expect("observations");
    assert!(kept.iter().any(|event| matches!(event.kind, EventKind::Loss { .. })));
}

#[test]
fn recordings_go_through_pipes_and_outlive_full_disks_and_kills() {
    let script = "
        guests='ept-trace check --quiet --maxphyaddr 36 --vcpus 1'
        ept-trace record -o - -- $guests > /out/piped.ept 2> /dev/null; echo piped: $?
        mkdir /small; mount -t tmpfs -o size=16k tmpfs /small
        ept-trace watch -j --history -o /small/full.ept -- sh -c 'ept-trace check --quiet > /dev/null' \
            > /out/full.jsonl
        echo full: $?; cp /small/full.ept /out
        ept-trace record -o /out/killed.ept & watcher=$!
        until [ \"$(wc -l < /sys/kernel/tracing/kprobe_events)\" -ge 9 ]; do sleep 0.2; done; sleep 3
        $guests; sleep 3; kill -9 $watcher
        mkdir /kept; rm /small/*
        ept-trace check -j --scenario memory --keep /kept > /small/full.jsonl; echo broken: $?
        cp /kept/*/recording.ept /out/broken.ept
    ";
    let run = lab("recordings", SVM, script);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let recorded = |file: &str| observations(&run.out.join(file)).expect("a recording");
    let decisions = |events: &[Event]| {
        events.iter().filter(|event| matches!(event.kind, EventKind::Decision(_))).count()
    };
    let gaps = |events: &[Event]| {
        events.iter().filter(|event| matches!(event.kind, EventKind::Gap { .. })).count()
    };
    // What the command prints is no part of it.
    let piped = recorded("piped.ept");
    assert!(run.output.contains("piped: 0"), "{}", run.output);
    assert_eq!((decisions(&piped), gaps(&piped)), (4, 0));
    // What is shown goes on.
    let full = recorded("full.ept");
    assert!(run.output.contains("full: 2"), "{}", run.output);
    assert!(run.output.contains("full.ept: No space left on device"), "{}", run.output);
    assert!(decisions(&full) > 0 && gaps(&full) == 1);
    let shown = json_lines(&run.out.join("full.jsonl"));
    assert_eq!(shown.last().expect("a summary")["type"], "summary");
    // All but the last second.
    let killed = recorded("killed.ept");
    assert_eq!((decisions(&killed), gaps(&killed)), (4, 1));
    assert!(matches!(killed[killed.len() - 1].kind, EventKind::Gap { .. }));
    // What the guests did until the output broke is kept; what came after it is missed.
    assert!(run.output.contains("broken: 2"), "{}", run.output);
    assert!(run.output.contains("it is recorded in /kept/"), "{}", run.output);
    let broken = recorded("broken.ept");
    assert!(decisions(&broken) > 0 && gaps(&broken) == 1);
}

#[test]
fn every_rule_finds_the_fault_that_it_is_shown() {
    let output = xtask()
        .args(["lab", "--faults", "--cpu", "svm", "--kernel", "6.12"])
        .output()
        .expect("xtask can be started");
    assert_eq!(output.status.code(), Some(0), "{}", tests::text(&output));
}

#[test]
fn the_demo_shows_both_levels() {
    let output = xtask().arg("demo").output().expect("xtask can be started");
    assert_eq!(output.status.code(), Some(0), "{}", tests::text(&output));
}

#[test]
fn a_panic_and_a_hang_are_told_from_a_failure() {
    let panicked = lab("panic", SVM, "sleep 1; echo c > /proc/sysrq-trigger");
    assert_eq!(panicked.code, Some(2), "{}", panicked.output);
    assert!(panicked.output.contains("sysrq"), "with the console's end: {}", panicked.output);

    let hung = xtask()
        .args(["lab", "--cpu", "svm", "--kernel", "6.12", "--timeout", "30"])
        .args(["--", "sleep", "1000"])
        .output()
        .expect("xtask can be started");
    assert_eq!(hung.status.code(), Some(2), "{}", tests::text(&hung));
    assert!(tests::text(&hung).contains("30 s"), "{}", tests::text(&hung));

    let failed = lab("failed", SVM, "exit 7");
    assert_eq!(failed.code, Some(7), "{}", failed.output);
}
