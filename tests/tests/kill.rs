//! A watcher that is killed leaves the kernel as it was, and a recording that can be read.
#![cfg(feature = "lab")]

use std::fmt::Write as _;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tests::Cell;
use tests::lab::lab_with_programs;

/// Kills in a cell.
const KILLS: usize = 20;
/// The latest of them, in hundredths of a second: every other after the start, and the rest after all
/// is attached, which takes seconds in a busy cell.
const LATEST: u64 = 400;

/// What an outsider sees of a watcher: programs, maps and links by bpftool, and what tracefs and bpffs
/// hold. The load is another `ept-trace`, whose own must be let alone.
const SCRIPT: &str = r#"
state() {
    bpftool() { /add/run bpftool "$@"; }
    bpftool prog show; bpftool map show; bpftool link show
    ls -R /sys/fs/bpf
    cd /sys/kernel/tracing
    cat kprobe_events uprobe_events set_event current_tracer
    ls instances events; cat events/enable
    cd /
    grep -c . /sys/kernel/debug/kprobes/list
}
unchanged() { # for as long as the child that cleans up may take
    for attempt in $(seq 50); do
        state > /tmp/now; cmp -s /tmp/before /tmp/now && return; sleep 0.2
    done
    false
}
attached() { while kill -0 $1 && ! grep -q NoNewPrivs.*1 /proc/$1/status; do sleep 0.2; done; }

state > /tmp/nothing
ept-trace check --quiet --random 1000000 > /dev/null 2>&1 & load=$!; attached $load
state > /tmp/before
round=0
for kill in $KILLS; do
    round=$((round + 1))
    ept-trace watch -o /out/$round.ept > /dev/null 2>&1 & watcher=$!
    case $kill in *:attached+*) attached $watcher;; esac
    sleep ${kill##*[:+]}
    hooked=$(grep -c ept_trace_${watcher}_ /sys/kernel/tracing/kprobe_events)
    case $kill in
        watcher:*) kill -9 $watcher;;
        # At once: it is stopped before its child, which could see its end else.
        both:*) kill -STOP $watcher; kill -9 $(cat /proc/$watcher/task/$watcher/children) $watcher;;
    esac
    wait $watcher
    case $kill in both:*)
        # Programs and maps go with the process; what is left of it is for the next to remove.
        sleep 1; left=$(grep -c ept_trace_${watcher}_ /sys/kernel/tracing/kprobe_events)
        ept-trace watch --dry-run > /dev/null 2>&1;;
    *) left=-;;
    esac
    if unchanged; then is=unchanged; else is=changed; diff /tmp/before /tmp/now; fi
    echo "kill $kill: $hooked events, then $left, $is"
done
kill $load; wait $load
cp /tmp/nothing /tmp/before
if unchanged; then echo in the end nothing; else diff /tmp/before /tmp/now; fi
"#;

/// Moments, with what is killed: the watcher, or it and its child that cleans up.
fn kills(mut seed: u64) -> Vec<(&'static str, u64)> {
    let mut next = move || {
        // Knuth's MMIX generator; its high bits are good enough for moments.
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 33
    };
    (0..KILLS)
        .map(|kill| (if kill % 4 == 3 { "both" } else { "watcher" }, next() % LATEST))
        .collect()
}

fn seed() -> u64 {
    let given = std::env::var("EPT_TRACE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    })
}

fn twenty_kills(cell: Cell) {
    let seed = seed();
    println!("EPT_TRACE_SEED={seed}");
    let mut list = String::new();
    for (kill, (what, moment)) in kills(seed).into_iter().enumerate() {
        let is_attached = kill % 2 == 1;
        let since = if is_attached { "attached+" } else { "" };
        let _ = write!(list, "{what}:{since}{}.{:02} ", moment / 100, moment % 100);
    }
    let script = format!("KILLS='{list}'\n{SCRIPT}");
    let run = lab_with_programs(&["bpftool"], "twenty-kills", cell, &script);
    println!("{}", run.output);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.output.matches(", unchanged").count(), KILLS);
    assert!(run.output.contains("in the end nothing"));
    let had_none = run.output.matches(": 0 events").count();
    assert!(had_none <= KILLS / 2, "else little is shown");

    let mut read = 0;
    for kill in 1..=KILLS {
        let file = run.out.join(format!("{kill}.ept"));
        // One that was killed before it began a recording has none.
        if file.metadata().map_or(0, |file| file.len()) == 0 {
            continue;
        }
        let analyze = Command::new(tests::product()).arg("analyze").arg(&file).output();
        let analyze = analyze.expect("ept-trace can be started");
        // A recording without an end is incomplete, and no bad input.
        assert!(matches!(analyze.status.code(), Some(0 | 3)), "{kill}: {}", tests::text(&analyze));
        read += 1;
    }
    assert!(read >= KILLS / 2, "{read} recordings");
}

#[test]
fn twenty_kills_leave_nothing_on_6_12() {
    twenty_kills(Cell { cpu: "svm", kernel: "6.12" });
}

#[test]
fn twenty_kills_leave_nothing_on_5_10() {
    twenty_kills(Cell { cpu: "svm", kernel: "5.10" });
}
