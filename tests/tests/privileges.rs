//! What a watcher may do once it is attached, and what it needs to be allowed before, in the lab.
#![cfg(feature = "lab")]

use tests::Cell;
use tests::lab::{Run, json_lines, lab, lab_with_programs};

const CELLS: [Cell; 2] = [Cell { cpu: "svm", kernel: "6.12" }, Cell { cpu: "svm", kernel: "5.10" }];

/// Bits of `/proc/PID/status`; linux/capability.h.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_KILL: u64 = 1 << 5;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;
const HOOKS: u64 = CAP_BPF | CAP_PERFMON;

/// The value that follows a label in what was printed, hexadecimal.
fn hex(run: &Run, label: &str) -> u64 {
    let value = run.output.lines().find_map(|line| line.strip_prefix(label));
    let value = value.unwrap_or_else(|| panic!("{label}: {}", run.output));
    u64::from_str_radix(value.trim(), 16).unwrap_or_else(|err| panic!("{label} {value}: {err}"))
}

#[test]
fn a_watcher_keeps_two_capabilities_and_its_command_has_all() {
    let script = "
        ulimit -l 64
        echo 2 > /proc/sys/kernel/perf_event_paranoid
        tell() { sed -n \"s/^\\(Cap...\\|NoNewPrivs\\):/$1 \\1/p\" /proc/$2/status; }
        attached() { until grep -q NoNewPrivs.*1 /proc/$1/status; do sleep 0.2; done; }
        tell shell self
        ept-trace watch > /dev/null & watcher=$!; attached $watcher
        tell watcher $watcher
        for task in /proc/$watcher/task/*; do grep CapPrm $task/status; done | sort -u | wc -l
        tell cleaner $(cat /proc/$watcher/task/$watcher/children)
        kill -INT $watcher; wait $watcher; echo watcher ended $?
        ept-trace watch -o /tmp/parts.ept --rotate 1M -- sh -c '
            sed -n \"s/^\\(Cap...\\|NoNewPrivs\\):/command \\1/p\" /proc/self/status
            sleep 1; sed -n \"s/^CapPrm:/above-command /p\" /proc/$PPID/status
            echo command memlock $(ulimit -l)'
        ept-trace check --scenario decision --maxphyaddr 36 --random 400 > /dev/null 2>&1 & check=$!
        attached $check; sed -n 's/^CapPrm:/check /p' /proc/$check/status
    ";
    for cell in CELLS {
        let run = lab("capabilities", cell, script);
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(hex(&run, &format!("watcher {set}")), 0);
        }
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(hex(&run, &format!("watcher {set}")), HOOKS, "{cell:?} {set}");
            assert_eq!(hex(&run, &format!("cleaner {set}")), 0, "{cell:?} {set}");
            let all = hex(&run, &format!("shell {set}"));
            assert_ne!(all & !HOOKS, 0, "else nothing is shown");
            assert_eq!(hex(&run, &format!("command {set}")), all, "{cell:?} {set}");
        }
        for (who, nnp) in [("shell", 0), ("watcher", 1), ("cleaner", 1), ("command", 0)] {
            assert_eq!(hex(&run, &format!("{who} NoNewPrivs")), nnp, "{cell:?} {who}");
        }
        // It can end its command, and go on in another file, whoever these belong to.
        let more = CAP_KILL | CAP_DAC_OVERRIDE | CAP_FOWNER;
        assert_eq!(hex(&run, "above-command"), HOOKS | more, "{cell:?}");
        assert_eq!(hex(&run, "check"), HOOKS | CAP_DAC_OVERRIDE | CAP_FOWNER, "{cell:?}");
        // Loading raises it before 5.11.
        assert!(run.output.contains("command memlock 64\n"), "{cell:?}: {}", run.output);
        assert!(run.output.contains("watcher ended 0\n"), "{cell:?}: {}", run.output);
    }
}

#[test]
fn a_module_that_comes_later_is_hooked_and_judged_with_what_is_left() {
    let script = "
        modprobe -r kvm_amd; modprobe -r kvm
        ept-trace watch -j > /out/watch.jsonl & watcher=$!
        until grep -q NoNewPrivs.*1 /proc/$watcher/status; do sleep 0.2; done
        for round in 1 2; do
            modprobe kvm_amd; sleep 2
            ept-trace check --scenario decision --maxphyaddr 36,52 --vcpus 1 > /dev/null 2>&1
            modprobe -r kvm_amd; modprobe -r kvm; sleep 1
        done
        kill -INT $watcher; wait $watcher
    ";
    for cell in CELLS {
        let run = lab("later", cell, script);
        assert_eq!(run.code, Some(0), "{cell:?}: {}", run.output);
        let lines = json_lines(&run.out.join("watch.jsonl"));
        let decisions = lines.iter().filter(|line| line["type"] == "decision");
        assert!(decisions.clone().count() >= 8, "{cell:?}");
        for line in decisions {
            // With what /proc/kcore says of the module.
            assert_eq!(line["rules"]["EPT104"], "ok", "{cell:?}: {line}");
        }
        let summary = lines.last().expect("a summary");
        for count in ["mismatches", "undetermined", "lost"] {
            assert_eq!(summary[count], 0, "{cell:?}: {summary}");
        }
    }
}

#[test]
fn another_user_with_the_capabilities_can_watch_and_is_told_which_are_missing() {
    let script = "
        as() {
            caps=$(echo $1 | sed 's/[^,]*/+&/g'); shift
            /add/run setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all,$caps \
                --inh-caps -all,$caps --ambient-caps -all,$caps \"$@\"
        }
        try() { what=$1; shift; \"$@\" > /tmp/said 2>&1; echo \"$what: $?: $(tail -n 1 /tmp/said)\"; }
        all=bpf,perfmon,dac_override,syslog,sys_rawio
        echo 2 > /proc/sys/kernel/perf_event_paranoid
        try with-all as $all ept-trace watch --dry-run
        as $all ept-trace doctor -j > /out/with-all.json
        try no-facts as bpf,perfmon,dac_override ept-trace watch --dry-run
        as bpf,perfmon,dac_override ept-trace doctor -j > /out/no-facts.json
        echo 3 > /proc/sys/kernel/perf_event_paranoid
        try restricted as $all ept-trace watch
        echo 2 > /proc/sys/kernel/perf_event_paranoid
        try no-bpf as perfmon,dac_override ept-trace watch
        try no-tracefs as bpf,perfmon ept-trace watch
        try no-perfmon as bpf,dac_override ept-trace watch
        echo left: $(wc -l < /sys/kernel/tracing/kprobe_events)
    ";
    for cell in CELLS {
        let run = lab_with_programs(&["setpriv"], "another-user", cell, script);
        let told = |line: &str| assert!(run.output.contains(line), "{cell:?}: {}", run.output);
        told("with-all: 0: ");
        told("no-facts: 0: ");
        told("no-bpf: 4: ept-trace: cannot run here: without CAP_BPF (");
        // Debian's kernels ask for more, unless told otherwise.
        told("restricted: 4: ept-trace: cannot run here: without CAP_SYS_ADMIN (");
        told("no-perfmon: 4: ept-trace: cannot run here: without CAP_PERFMON (");
        told("no-tracefs: 4: ept-trace: cannot run here: without CAP_DAC_OVERRIDE (");
        told("left: 0\n");
        // What is only good for facts is no obstacle; they are unknown then, each with the reason.
        let known = &json_lines(&run.out.join("with-all.json"))[0]["facts"]["kvm"]["tdp_enabled"];
        assert_eq!(known["known"]["value"], true, "{cell:?}: {known}");
        let unknown = &json_lines(&run.out.join("no-facts.json"))[0]["facts"]["kvm"]["tdp_enabled"];
        let why = unknown["unknown"]["why"].as_str().unwrap_or_default();
        assert!(why.contains("CAP_SYSLOG") || why.contains("/proc/kcore"), "{cell:?}: {unknown}");
    }
}
