//! What is known at a point of the stream, and which source is believed first.

use ept_trace_common::decision::max_ept_level;

use crate::model::{Behaviour, ConfigureMmu, Decision, EventKind, Fact, KernelFacts, Vendor};
use crate::oracle::ReplayInputs;

/// What the stream has told so far of the machine.
///
/// A decision is held against what KVM held at that very moment; failing that, against what the
/// vendor module handed to kvm while we watched; failing that, against what was read at start.
#[derive(Clone, Debug, Default)]
pub struct Known {
    facts: Option<KernelFacts>,
    configured: Option<ConfigureMmu>,
}

impl Known {
    /// Takes in an observation.
    pub fn learn(&mut self, event: &EventKind) {
        match event {
            EventKind::Facts(facts) => {
                self.facts = Some((**facts).clone());
                // Arguments seen before belong to the module before.
                self.configured = None;
            }
            EventKind::ConfigureMmu(configured) => self.configured = Some(*configured),
            _ => {}
        }
    }

    /// The facts, once the stream has told them.
    pub fn facts(&self) -> Option<&KernelFacts> {
        self.facts.as_ref()
    }

    /// The vendor module.
    pub fn vendor(&self) -> &Vendor {
        self.facts.as_ref().map_or(&Vendor::None, |facts| &facts.vendor)
    }

    /// The EPT capability: of the hardware, else as KVM keeps it.
    pub fn capability(&self) -> Fact<u64> {
        self.fact(|facts| facts.hardware.ept_vpid_cap.clone())
            .or(|| self.fact(|facts| facts.kvm.vmx_capability_ept.map(u64::from)))
    }

    /// The inputs of a decision, each from the best source there is.
    pub fn replay_inputs<'a>(&'a self, decision: &Decision) -> ReplayInputs<'a> {
        const NO_FACTS: &Behaviour = &Behaviour {
            has_tdp_root_level: false,
            has_max_tdp_level: false,
            has_cached_tdp_level: false,
            has_maxguestphyaddr: false,
        };
        let behaviour = self.facts.as_ref().map_or(NO_FACTS, |facts| &facts.behaviour);
        ReplayInputs {
            behaviour,
            nested: decision.nested,
            tdp_enabled: at_decision("tdp_enabled", decision.inputs.tdp_enabled)
                .or(|| self.argument("enable_tdp", |args| Some(args.enable_tdp)))
                .or(|| self.fact(|facts| facts.kvm.tdp_enabled.clone())),
            forced: at_decision("tdp_root_level", decision.inputs.tdp_root_level)
                .or(|| self.argument("tdp_forced_root_level", |args| args.forced_root_level))
                .or(|| self.fact(|facts| facts.kvm.tdp_root_level.clone()))
                .or(|| self.none_forced(behaviour)),
            max: at_decision("max_tdp_level", decision.inputs.max_tdp_level)
                .or(|| self.argument("tdp_max_root_level", |args| args.max_root_level))
                .or(|| self.fact(|facts| facts.kvm.max_tdp_level.clone()))
                .or(|| self.level_of_capability(behaviour)),
            maxphyaddr: match decision.maxphyaddr.map(u8::try_from) {
                Some(Ok(bits)) => Fact::known(bits, "vcpu->arch.maxphyaddr"),
                Some(Err(_)) => Fact::unknown("vcpu->arch.maxphyaddr is above 255"),
                None => Fact::unknown("vcpu->arch.maxphyaddr could not be read"),
            },
            vm_type: decision.vm_type,
            cpuid: decision.cpuid,
            paging: decision.cr4.zip(decision.efer),
        }
    }

    /// 5.8 has no `max_tdp_level`: `vmx_get_tdp_level` reads the capability at each decision.
    fn level_of_capability(&self, behaviour: &Behaviour) -> Fact<u8> {
        if behaviour.is_cached() && *self.vendor() == Vendor::Vmx {
            self.capability().map(max_ept_level)
        } else {
            Fact::unknown("max_tdp_level could not be read")
        }
    }

    /// 5.8 forces no level.
    fn none_forced(&self, behaviour: &Behaviour) -> Fact<u8> {
        if behaviour.is_cached() && *self.vendor() == Vendor::Vmx {
            Fact::known(0, "this kernel forces no level")
        } else {
            Fact::unknown("tdp_root_level could not be read")
        }
    }

    fn fact<T: Copy>(&self, get: impl Fn(&KernelFacts) -> Fact<T>) -> Fact<T> {
        self.facts.as_ref().map_or_else(|| Fact::unknown("no facts of the machine"), get)
    }

    fn argument<T: Copy>(&self, name: &str, get: impl Fn(&ConfigureMmu) -> Option<T>) -> Fact<T> {
        match self.configured.as_ref().and_then(get) {
            Some(value) => Fact::known(value, format!("{name}, argument of kvm_configure_mmu")),
            None => Fact::unknown("kvm_configure_mmu was not seen"),
        }
    }
}

fn at_decision<T: Copy>(name: &str, value: Option<T>) -> Fact<T> {
    match value {
        Some(value) => Fact::known(value, format!("{name}, read at the decision")),
        None => Fact::unknown(format!("{name} could not be read")),
    }
}
