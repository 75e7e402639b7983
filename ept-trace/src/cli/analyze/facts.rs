//! What the user says of a machine that is not there any more.

use std::fs;
use std::io;
use std::path::Path;

use ept_trace_common::decision::max_ept_level;
use serde::Deserialize;

use super::BadInput;
use crate::cli::judge::Judge;
use crate::model::{Behaviour, Event, EventKind, Fact, Hardware, KernelFacts, KvmState, Vendor};

/// Facts that no file of the incident has.
pub(super) enum Given {
    /// What `doctor -j` printed on that machine, in a file of this name: judged as if it had been
    /// recorded.
    Read(String, Box<KernelFacts>),
    /// What options say, of which there is nothing to judge.
    Said(Box<KernelFacts>),
}

/// The output of `doctor -j`, of which the facts matter.
#[derive(Deserialize)]
struct Doctor {
    facts: KernelFacts,
}

impl Given {
    /// Reads the output of `doctor -j`.
    pub(super) fn read(path: &Path) -> Result<Self, BadInput> {
        let bad = |why: String| BadInput(format!("{}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|err| bad(err.to_string()))?;
        let doctor: Doctor = serde_json::from_str(&text)
            .map_err(|err| bad(format!("not the output of `ept-trace doctor -j`: {err}")))?;
        Ok(Self::Read(path.display().to_string(), Box::new(doctor.facts)))
    }

    /// An Intel machine with this EPT capability (MSR 0x48c), and EPT on.
    pub(super) fn ept(capability: u64) -> Self {
        let kvm = KvmState {
            tdp_enabled: Fact::known(true, "assumed with --ept-cap"),
            max_tdp_level: Fact::known(max_ept_level(capability), "bit 7 of --ept-cap"),
            tdp_root_level: Fact::known(0, "kvm_intel forces none"),
            ..KvmState::default()
        };
        let hardware =
            Hardware { ept_vpid_cap: Fact::known(capability, "--ept-cap"), ..Hardware::default() };
        Self::said(Vendor::Vmx, kvm, hardware)
    }

    /// An AMD machine whose host has paging of these levels, and NPT on.
    pub(super) fn npt(levels: u8) -> Self {
        let kvm = KvmState {
            tdp_enabled: Fact::known(true, "assumed with --npt"),
            max_tdp_level: Fact::known(levels, "--npt"),
            tdp_root_level: Fact::known(levels, "--npt: kvm_amd forces the host's level"),
            ..KvmState::default()
        };
        let hardware =
            Hardware { host_la57: Fact::known(levels == 5, "--npt"), ..Hardware::default() };
        Self::said(Vendor::Svm, kvm, hardware)
    }

    fn said(vendor: Vendor, kvm: KvmState, hardware: Hardware) -> Self {
        let behaviour =
            Behaviour { has_max_tdp_level: true, has_tdp_root_level: true, ..Behaviour::default() };
        let release = "not told".to_owned();
        Self::Said(Box::new(KernelFacts { release, vendor, behaviour, hardware, kvm }))
    }

    /// Tells them, before anything else.
    pub(super) fn tell(&self, judge: &mut Judge) -> io::Result<()> {
        match self {
            Self::Read(name, facts) => {
                judge.source(name)?;
                let kind = EventKind::Facts(facts.clone());
                judge.event(Event { time_ns: 0, kind }).map(|_| ())
            }
            Self::Said(facts) => {
                judge.assume((**facts).clone());
                Ok(())
            }
        }
    }
}
