//! The machine, as a report tells of it.

use std::fmt;

use super::{Piece, Plain};
use crate::model::{Fact, HookStatus, KernelFacts, Vendor};

/// What matters of a machine.
#[derive(Debug)]
pub(in crate::report) struct Machine {
    /// `uname -r`.
    pub release: Plain,
    /// The vendor module, in words.
    pub vendor: Plain,
    /// The facts that the decision rests on.
    pub facts: Vec<Piece>,
}

impl Machine {
    pub(super) fn new(facts: &KernelFacts) -> Self {
        let KernelFacts { release, vendor, behaviour, hardware, kvm } = facts;
        let mut pieces = vec![Piece {
            what: Plain::of("decision"),
            value: Plain::of(behaviour.era()),
            origin: Plain::of("found by presence of KVM's symbols"),
        }];
        let mut add = |what: &str, fact: Fact<String>| pieces.push(piece(what, &fact));
        let hex = |fact: &Fact<u64>| fact.map(|value| format!("{value:#x}"));
        add("tdp_enabled", shown(&kvm.tdp_enabled));
        add("max_tdp_level", shown(&kvm.max_tdp_level));
        add("tdp_root_level", shown(&kvm.tdp_root_level));
        add("MAXPHYADDR of the host", shown(&hardware.maxphyaddr));
        add("5-level paging of the host", shown(&hardware.host_la57));
        if *vendor == Vendor::Svm {
            add("npt_enabled", shown(&kvm.npt_enabled));
        } else {
            add("enable_ept", shown(&kvm.enable_ept));
            add("enable_ept_ad_bits", shown(&kvm.enable_ept_ad_bits));
            add("MSR 0x48c", hex(&hardware.ept_vpid_cap));
            add("vmx_capability.ept", hex(&kvm.vmx_capability_ept.map(u64::from)));
        }
        let vendor = match vendor {
            Vendor::None => "no vendor module of KVM".to_owned(),
            vendor => vendor.to_string(),
        };
        Self { release: Plain::of(release), vendor: Plain::of(&vendor), facts: pieces }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, {}", self.release, self.vendor)
    }
}

fn shown<T: Copy + fmt::Display>(fact: &Fact<T>) -> Fact<String> {
    fact.map(|value| value.to_string())
}

fn piece(what: &str, fact: &Fact<String>) -> Piece {
    let (value, origin) = match fact {
        Fact::Known { value, origin } => (value.as_str(), origin),
        Fact::Unknown { why } => ("?", why),
    };
    Piece { what: Plain::of(what), value: Plain::of(value), origin: Plain::of(origin) }
}

/// The hooks, and what cannot be seen with them.
#[derive(Debug)]
pub(in crate::report) struct Hooks {
    /// Hook, whether it is attached, and how or why not.
    pub hooks: Vec<(Plain, bool, Plain)>,
    /// What cannot be seen.
    pub not_seen: Vec<Plain>,
}

impl Hooks {
    /// There are less than 50; a file may say otherwise.
    const MOST: usize = 100;

    pub(super) fn new(hooks: &[HookStatus], not_seen: &[String]) -> Self {
        let status =
            |hook: &HookStatus| (Plain::of(&hook.hook), hook.attached, Plain::of(&hook.how));
        Self {
            hooks: hooks.iter().take(Self::MOST).map(status).collect(),
            not_seen: not_seen.iter().take(Self::MOST).map(|what| Plain::of(what)).collect(),
        }
    }
}
