//! What is recorded where, and what is kept of it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::lab::{self, Cell, Cpu, KernelChoice};

/// A cell that is booted once, for one session after the other.
#[derive(Debug)]
pub struct Boot {
    cpu: Cpu,
    kernel: &'static str,
    /// What is recorded there.
    pub sessions: &'static [Session],
}

/// Something that is recorded: see the functions in `lab/logs.sh`.
#[derive(Debug, PartialEq, Eq)]
pub enum Session {
    /// Two VMs, as every tool can write them.
    All,
    /// The same, of which only a file for each tool is kept.
    Briefly,
    /// One VM, of which a memslot is moved.
    Moved,
    /// Two buffers in one file of trace-cmd.
    Buffers,
    /// Buffers that are too small.
    Lost,
    /// One VM with a fault.
    Fault(Fault),
}

/// A fault that a log can carry.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the directory is called.
    name: &'static str,
    /// The first fault of this rule is seeded, which `ept-trace watch` must find.
    pub rule: &'static str,
    /// What else is done before.
    before: &'static str,
    /// The guest, unless the fault has one of its own.
    guest: &'static str,
}

const SIX_TWELVE: &str = "6.12";

/// KVM warns as it makes the entry, and as the CPU refuses it.
const RESERVED: Fault = Fault { name: "reserved", rule: "EPT301", before: "", guest: "guests 48" };

/// Everything.
pub const BOOTS: &[Boot] = &[
    Boot {
        cpu: Cpu::Svm,
        kernel: SIX_TWELVE,
        sessions: &[
            Session::All,
            Session::Buffers,
            Session::Lost,
            // The hardware walks 5 levels of a root of 4, and faults for ever.
            Session::Fault(Fault { name: "loop", rule: "EPT103", before: "", guest: "hanging 48" }),
            Session::Fault(Fault { name: "entry", rule: "EPT401", before: "", guest: "" }),
        ],
    },
    Boot {
        cpu: Cpu::Vmx5,
        kernel: SIX_TWELVE,
        sessions: &[
            Session::All,
            Session::Moved,
            // 5 levels where 4 are called for serve the guest as well.
            Session::Fault(Fault {
                name: "level",
                rule: "EPT103",
                before: "",
                guest: "guests '48 --pause 20'",
            }),
            Session::Fault(Fault {
                name: "pointer",
                rule: "EPT201",
                before: "echo 1 >/sys/module/kvm_intel/parameters/dump_invalid_vmcs; ",
                guest: "guests 48",
            }),
            Session::Fault(RESERVED),
        ],
    },
    Boot { cpu: Cpu::Svm, kernel: "5.10", sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::Svm, kernel: "6.1", sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::Svm, kernel: "7.2", sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::SvmLa48, kernel: SIX_TWELVE, sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::Vmx, kernel: SIX_TWELVE, sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::Vmx5, kernel: "5.10", sessions: &[Session::Briefly] },
    Boot { cpu: Cpu::Vmx5, kernel: "6.1", sessions: &[Session::Briefly] },
    // Warnings have another form there.
    Boot { cpu: Cpu::Vmx5, kernel: "7.2", sessions: &[Session::Briefly, Session::Fault(RESERVED)] },
];

/// What is not kept of [`Session::All`]: it is for us alone.
const NOT_OF_ALL: [&str; 6] = [
    "findings.txt",
    "perf-script.pipe.txt",
    "perf-script.zstd.txt",
    "perf.txt",
    "trace-cmd.txt",
    "trace.stats",
];
/// What is kept of the others.
const OF_BRIEFLY: [&str; 6] =
    ["events.jsonl", "facts.json", "guests.txt", "perf.few.data", "trace.dat", "trace.txt"];
const OF_MOVED: [&str; 3] = ["events.jsonl", "guests.txt", "trace.dat"];
const OF_BUFFERS: [&str; 2] = ["report.txt", "trace.dat"];
const OF_LOST: [&str; 4] = ["perf-script.few.txt", "perf.few.data", "report.txt", "trace.dat"];
const OF_FAULT: [&str; 9] = [
    "dmesg.txt",
    "events.jsonl",
    "findings.txt",
    "guests.txt",
    "perf-script.few.txt",
    "perf.few.data",
    "report.raw.txt",
    "seeded.txt",
    "trace.dat",
];

impl Boot {
    /// The cell.
    pub fn cell(&self) -> Result<Cell> {
        Ok(Cell { cpu: self.cpu, kernel: KernelChoice::parse(self.kernel, None)?.remove(0) })
    }

    /// `vmx5-6.12`
    pub fn name(&self) -> String {
        format!("{}-{}", self.cpu.name(), self.kernel)
    }

    /// The script for all sessions.
    pub fn script(&self) -> Result<String> {
        let cell = self.cell()?;
        let lines: Result<Vec<String>> =
            self.sessions.iter().map(|session| session.script(&cell)).collect();
        Ok(lines?.join("\n"))
    }
}

impl Session {
    /// The directory that the script leaves.
    pub fn name(&self) -> String {
        match self {
            Self::All | Self::Briefly => "all".to_owned(),
            Self::Moved => "moved".to_owned(),
            Self::Buffers => "buffers".to_owned(),
            Self::Lost => "lost".to_owned(),
            Self::Fault(fault) => format!("fault-{}", fault.name),
        }
    }

    /// The corpus' directory for it, recorded in `boot`.
    pub fn directory(&self, boot: &str) -> PathBuf {
        match self {
            Self::All | Self::Briefly => boot.into(),
            _ => format!("{}-{boot}", self.name()).into(),
        }
    }

    /// Whether a file that was recorded is kept.
    pub fn keeps(&self, file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match self {
            Self::All => !NOT_OF_ALL.contains(&name),
            Self::Briefly => OF_BRIEFLY.contains(&name),
            Self::Moved => OF_MOVED.contains(&name),
            Self::Buffers => OF_BUFFERS.contains(&name),
            Self::Lost => OF_LOST.contains(&name),
            Self::Fault(_) => OF_FAULT.contains(&name),
        }
    }

    fn script(&self, cell: &Cell) -> Result<String> {
        let Self::Fault(Fault { rule, before, guest, .. }) = self else { return Ok(self.name()) };
        let lab::Seeding { there, back, guest: own } = lab::seeding(rule, cell)?;
        let guest = own.as_deref().unwrap_or(guest);
        Ok(format!("fault {} '{before}{there}' '{back}' {guest}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_session_has_a_script_and_a_directory_of_its_own() {
        let mut directories = BTreeSet::new();
        for boot in BOOTS {
            assert!(boot.script().is_ok(), "{}", boot.name());
            for session in boot.sessions {
                assert!(directories.insert(session.directory(&boot.name())), "{session:?}");
            }
        }
    }

    #[test]
    fn the_fault_lab_seeds_the_faults() {
        let scripts: Vec<String> = BOOTS.iter().filter_map(|boot| boot.script().ok()).collect();
        let all = scripts.join("\n");
        for expected in
            ["fault fault-level 'poke kvm_init_mmu ", "'true' 'true' touched 1 1 '", "hanging 48"]
        {
            assert!(all.contains(expected), "{all}");
        }
    }
}
