//! What a captured walk costs in the kernel, by the kernel's own count of the time that programs
//! run, beside a script of bpftrace that prints the same fields of the same faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command;
use crate::lab::{self, Cpu, Options};

/// Starts bpftrace if it is there, lets guests fault, and prints for each program of both a line
/// `cost WHOSE runs nanoseconds instructions`. The counts are read just before the end, for they go
/// with the programs.
const SCRIPT: &str = r#"
mount -t tracefs none /sys/kernel/tracing 2>/dev/null
mount -t debugfs none /sys/kernel/debug 2>/dev/null
echo 1 >/proc/sys/kernel/bpf_stats_enabled
costs() {
    for file in /proc/$1/fdinfo/*; do
        grep -q prog_id "$file" 2>/dev/null && awk -v whose="$2" '
            /run_time_ns/ { time = $2 } /run_cnt/ { runs = $2 } /verified_insns/ { walked = $2 }
            END { print "cost", whose, runs, time, walked + 0 }' "$file"
    done
}
if [ -f /add/bpftrace.tgz ]; then
    mkdir /bt && tar xzf /add/bpftrace.tgz -C /bt && rm /add/bpftrace.tgz
    LD_LIBRARY_PATH=/bt /bt/ld-linux-x86-64.so.2 /bt/bpftrace /add/walk.bt >/bt/lines 2>/bt/said &
    script=$!
    while ! grep -q Attaching /bt/lines; do kill -0 $script || { cat /bt/said; exit 1; }; sleep 1; done
    sleep 3
fi
ept-trace check --quiet --scenario memory --intensity 16 2>/dev/null &
check=$!
while kill -0 $check 2>/dev/null; do
    costs $check ept-trace >/costs.new
    [ -s /costs.new ] && mv /costs.new /costs
    sleep 0.3
done
wait $check || exit
cat /costs
[ -n "$script" ] && costs $script bpftrace
true
"#;

/// Time and runs of one side's programs.
#[derive(Debug, Default, PartialEq)]
struct Cost {
    /// Of the program that ran most often: each fault runs it once.
    faults: u64,
    nanoseconds: u64,
    instructions: u64,
}

/// The lines to print.
pub fn measure(product: &Path, scratch: &Path) -> Result<String> {
    let command = ["sh", "-c", SCRIPT];
    let mut options = Options::new(&command, product.to_owned());
    let note = match command::find("bpftrace") {
        Some(bpftrace) => {
            options.add.push(lab::pack(&bpftrace, scratch)?);
            options.add.push(command::repository().join("xtask/lab/walk.bt"));
            ""
        }
        None => "bpftrace: not installed, so not compared\n",
    };
    let outcome = lab::run(&super::cell(Cpu::Svm, "6.12")?, &options)?;
    let costs = costs(&String::from_utf8_lossy(&outcome.output)).with_context(|| {
        format!("no costs were told:\n{}", command::last_lines(&outcome.output, 5))
    })?;
    let mut lines =
        format!("{:<14}{:>9}{:>16}{:>14}\n", "", "faults", "ns a fault", "instructions");
    for (whose, cost) in costs {
        let each = cost.nanoseconds / cost.faults.max(1);
        let Cost { faults, instructions, .. } = cost;
        // To a String nothing can fail.
        let _ = writeln!(lines, "{whose:<14}{faults:>9}{each:>16}{instructions:>14}");
    }
    Ok(lines + note)
}

/// By whose programs they are.
fn costs(output: &str) -> Option<BTreeMap<String, Cost>> {
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    for line in output.lines() {
        let Some(words) = line.strip_prefix("cost ") else { continue };
        let mut words = words.split(' ');
        let whose = words.next()?.to_owned();
        let mut number = || words.next()?.parse::<u64>().ok();
        let (runs, time, instructions) = (number()?, number()?, number()?);
        let cost = costs.entry(whose).or_default();
        // Programs that a fault does not run are not what a walk costs.
        if runs < 1000 {
            continue;
        }
        cost.faults = cost.faults.max(runs);
        cost.nanoseconds += time;
        cost.instructions += instructions;
    }
    (!costs.is_empty()).then_some(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_runs_is_added_up() {
        let output = "noise\ncost ept-trace 8000 40000 600\ncost ept-trace 6 999 30000\n\
                      cost ept-trace 5000 10000 200\ncost bpftrace 8000 1 2\n";
        let costs = costs(output).unwrap();
        let cost = Cost { faults: 8000, nanoseconds: 50000, instructions: 800 };
        assert_eq!(costs["ept-trace"], cost);
        assert_eq!(costs["bpftrace"].nanoseconds, 1);
        assert_eq!(super::costs("nothing"), None);
        assert_eq!(super::costs("cost ept-trace 8000 x 600"), None);
    }
}
