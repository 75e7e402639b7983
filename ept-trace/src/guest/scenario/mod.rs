//! Scenarios: guests that have KVM build and change its tables, each step of them verified.
//!
//! The guest of a scenario has one program, which walks a list of commands: read, write, execute.
//! What it reads are marks, a distinct one for each place and writer, so that a wrong translation
//! shows by itself. Meanwhile the host does what hosts do to a guest's memory.

mod churn;
mod dirty_log;
mod high_gpa;
mod huge;
mod machine;
mod memory;
mod mmio;
mod nested;
mod program;
mod protect;
mod readonly;
mod slots;
mod step;
mod storm;
mod vcpus;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kvm_ioctls::Kvm;

use super::memory::Memory;
use super::random::SplitMix64;
use crate::model::{Case, CaseOutcome};

/// How often it is looked whether those who watch have caught up.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A scenario of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// The guests that make KVM decide: see [`ordinary`](super::ordinary) and its neighbours.
    Decision,
    /// Memory in pages of 4 KiB.
    Memory,
    /// Memory in larger pages.
    Huge,
    /// Memory that is read-only to the guest.
    Readonly,
    /// Memslots that come, go and move.
    Slots,
    /// Addresses without a memslot.
    Mmio,
    /// Dirty logging.
    DirtyLog,
    /// Memory that the host protects, discards and merges.
    Protect,
    /// Addresses at the edge of what can be reached.
    HighGpa,
    /// Guests that are hypervisors.
    Nested,
    /// VMs that come and go.
    Churn,
    /// Faults, zaps and VMs, as fast as the machine can.
    Storm,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 12] = [
        Self::Decision,
        Self::Memory,
        Self::Huge,
        Self::Readonly,
        Self::Slots,
        Self::Mmio,
        Self::DirtyLog,
        Self::Protect,
        Self::HighGpa,
        Self::Nested,
        Self::Churn,
        Self::Storm,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Memory => "memory",
            Self::Huge => "huge",
            Self::Readonly => "readonly",
            Self::Slots => "slots",
            Self::Mmio => "mmio",
            Self::DirtyLog => "dirty-log",
            Self::Protect => "protect",
            Self::HighGpa => "high-gpa",
            Self::Nested => "nested",
            Self::Churn => "churn",
            Self::Storm => "storm",
        }
    }

    /// What it does, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Decision => {
                "guests of many MAXPHYADDRs, for each of which a root level is chosen"
            }
            Self::Memory => "pages of 4 KiB in random order, read, written and executed",
            Self::Huge => "pages of 2 MiB and 1 GiB, split under the guest and put together again",
            Self::Readonly => "read-only memslots: reads succeed, writes exit to userspace",
            Self::Slots => "memslots refused, moved, deleted and made again under the guest",
            Self::Mmio => "accesses without a memslot, again and again, and at its edges",
            Self::DirtyLog => "dirty logging under load: every page written must be in the log",
            Self::Protect => "mprotect, MADV_DONTNEED and KSM under the guest",
            Self::HighGpa => "memory at 2^39, 2^47 and 2^48, and below MAXPHYADDR",
            Self::Nested => "hypervisors as guests, with EPT or NPT of 4 and of 5 levels",
            Self::Churn => "VMs, vCPUs and memslots that come and go, several at once",
            Self::Storm => "faults, zaps and VMs as fast as the machine can",
        }
    }

    /// Runs it, unless it is [`Decision`](Self::Decision), which has guests of its own: its cases,
    /// and what came of each.
    pub fn run(self, host: &Host<'_>) -> Vec<Case> {
        match self {
            Self::Decision => Vec::new(),
            Self::Memory => memory::cases(host),
            Self::Huge => huge::cases(host),
            Self::Readonly => readonly::cases(host),
            Self::Slots => slots::cases(host),
            Self::Mmio => mmio::cases(host),
            Self::DirtyLog => dirty_log::cases(host),
            Self::Protect => protect::cases(host),
            Self::HighGpa => high_gpa::cases(host),
            Self::Nested => nested::cases(host),
            Self::Churn => churn::cases(host),
            Self::Storm => storm::cases(host),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scenario {
    type Err = NoScenario;

    fn from_str(name: &str) -> Result<Self, NoScenario> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name).ok_or(NoScenario)
    }
}

/// There is no scenario of this name.
#[derive(Debug, thiserror::Error)]
#[error("no such scenario; `ept-trace check --list` shows them")]
pub struct NoScenario;

/// How scenarios are to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// vCPUs of a guest, from 1 to 64.
    pub vcpus: usize,
    /// What their random choices depend on.
    pub seed: u64,
    /// How much they do: 1 for some hundred EPT violations each, up to 32.
    pub intensity: u64,
    /// How long those go on at least that could go on for ever.
    pub time: Duration,
    /// MAXPHYADDR in bits of the guests that are hypervisors; none for the usual ones.
    pub maxphyaddrs: Vec<u8>,
    /// Width in bits of the GPAs that KVM's tables can reach, or why it is not known.
    pub reach: Result<u8, String>,
}

/// What a scenario runs on.
pub struct Host<'a> {
    /// KVM.
    pub kvm: &'a Kvm,
    /// How.
    pub settings: &'a Settings,
    /// Set when it shall end before its time.
    pub stop: &'a AtomicBool,
    /// Set while those who watch are behind: what could go on for ever waits for them.
    pub is_ahead: &'a AtomicBool,
}

/// Why a case cannot be run here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Skip(String);

/// Takes memory away, whoever uses it: it is zeros from now on.
fn discard(memory: &Memory, at: u64, size: u64) -> Result<()> {
    memory.advise(at, size, libc::MADV_DONTNEED).map_err(|err| match err.raw_os_error() {
        Some(libc::ENOSYS) => {
            Skip("this kernel has no madvise (CONFIG_ADVISE_SYSCALLS)".to_owned()).into()
        }
        _ => anyhow::Error::new(err).context("madvise"),
    })
}

impl Host<'_> {
    /// Runs a case. Its random choices are its own, whatever ran before it.
    fn case(&self, name: &str, run: impl FnOnce(&Self, SplitMix64) -> Result<()>) -> Case {
        let salt = name.bytes().fold(0, |salt: u64, byte| salt.rotate_left(8) ^ u64::from(byte));
        let began = Instant::now();
        let outcome = match run(self, SplitMix64(self.settings.seed ^ salt)) {
            Ok(()) => CaseOutcome::Passed,
            Err(err) => match err.downcast::<Skip>() {
                Ok(Skip(why)) => CaseOutcome::Skipped(why),
                Err(err) => CaseOutcome::Failed(format!("{err:#}")),
            },
        };
        Case { name: name.to_owned(), outcome, took: began.elapsed() }
    }

    /// How often something is done that takes until the time is up, at least once; each time with
    /// its number.
    ///
    /// # Errors
    ///
    /// The first failure, which ends it.
    fn until_time_is_up(&self, mut run: impl FnMut(u64) -> Result<()>) -> Result<u64> {
        let begin = Instant::now();
        let mut times = 0;
        while times == 0 || begin.elapsed() < self.settings.time {
            run(times)?;
            times += 1;
            while self.is_ahead.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
                thread::sleep(A_MOMENT);
            }
            if self.stop.load(Ordering::Relaxed) {
                bail!("is given up");
            }
        }
        Ok(times)
    }

    /// So many, times the intensity.
    fn amount(&self, usual: u64) -> u64 {
        usual * self.settings.intensity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse().ok(), Some(scenario));
        }
        assert!("".parse::<Scenario>().is_err() && "all".parse::<Scenario>().is_err());
    }
}
