//! Where a run is.

use std::fs;

use crate::model::Run;

/// Set by the lab, to the CPU that it emulates.
const LAB: &str = "EPT_TRACE_LAB";

/// The run that this command repeats, here.
pub(super) fn here(command: String) -> Run {
    let lab = std::env::var(LAB).ok().filter(|cpu| !cpu.is_empty());
    let place = match lab {
        Some(cpu) => format!("the lab ({cpu}, emulated)"),
        None => "this machine".to_owned(),
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = model_name(&read("/proc/cpuinfo")).unwrap_or("a CPU without a name").to_owned();
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    Run { place, cpu, release, command }
}

/// The CPU's own name for itself, from the text of /proc/cpuinfo.
fn model_name(cpuinfo: &str) -> Option<&str> {
    let (_, name) = cpuinfo.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_called_what_it_calls_itself() {
        let text = "processor\t: 0\nmodel\t\t: 6\nmodel name\t: QEMU TCG CPU version 2.5+\n";
        assert_eq!(model_name(text), Some("QEMU TCG CPU version 2.5+"));
        assert_eq!(model_name("model name\t: \n"), None);
        assert_eq!(model_name(""), None);
    }
}
