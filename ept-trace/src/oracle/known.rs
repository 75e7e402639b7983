//! What is known at a point of the stream, and which source is believed first.

use ept_trace_common::decision::max_ept_level;

use crate::model::{
    Behaviour, ConfigureMmu, Decision, Event, EventKind, Fact, Inputs, KernelFacts, Vendor, Walk,
};
use crate::oracle::spte::Mapping;
use crate::oracle::{Frames, History, ReplayInputs, Translated, Vcpus, translate};

/// Walks with this origin are of faults that a log tells.
pub const IN_A_LOG: &str = "kvm_page_fault";

/// What the stream has told so far of the machine.
///
/// A decision is held against what KVM held at that very moment; failing that, against what the
/// vendor module handed to kvm while we watched; failing that, against what was read at start.
#[derive(Clone, Debug, Default)]
pub struct Known {
    facts: Option<KernelFacts>,
    configured: Option<ConfigureMmu>,
    vcpus: Vcpus,
    frames: Frames,
    history: History,
    translated: Option<Result<Translated, String>>,
}

impl Known {
    /// A log tells the changes of entries, and not the entries that a fault's address is translated
    /// by: those are looked up.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    pub fn complete(&self, walk: &mut Walk) -> Result<(), String> {
        let root_level = walk.root_level.ok_or("the level of the root is not told")?;
        walk.entries = self.history.way_in_log(walk.gpa >> 12, root_level)?;
        // What ends at a table goes on where nothing was told.
        let level = root_level.saturating_sub(walk.entries.len().try_into().unwrap_or(u8::MAX)) + 1;
        let last = walk.entries.last().and_then(|last| Mapping::of(*last, level));
        match last {
            Some(Mapping { is_table: false, .. }) => Ok(()),
            _ => Err("not every entry is told that the address is translated by".to_owned()),
        }
    }

    /// Takes in an observation, before it is judged: what it tells of the machine.
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
        if let EventKind::Walk(walk) = event {
            self.translated = Some(translate(walk, self));
        } else {
            self.translated = None;
        }
    }

    /// Takes in an observation with its time, before it is judged: what it tells of the entries.
    pub fn follow(&mut self, event: &Event) {
        // A KVM that has this mask has a bit for present entries as well: both came with 5.13.
        let kvm = self.facts.as_ref().map(|facts| &facts.kvm);
        let has_bit = kvm.is_some_and(|kvm| kvm.shadow_mmu_writable_mask.value().is_some());
        // Of a log its entries have told.
        let is_told =
            matches!(&event.kind, EventKind::SpteChange(change) if change.in_log.is_some());
        self.history.follow(event, has_bit || is_told);
    }

    /// Takes in an observation, after it was judged: what it tells of the vCPUs, and of frames.
    pub fn note(&mut self, event: &EventKind) {
        // Of these there are millions, and they tell nothing of either.
        if let EventKind::SpteChange(_) = event {
            return;
        }
        self.vcpus.note(event);
        self.frames.note(event);
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

    /// MAXPHYADDR of the host, in bits.
    pub fn host_maxphyaddr(&self) -> Fact<u8> {
        self.fact(|facts| facts.hardware.maxphyaddr.clone())
    }

    /// The inputs of a decision, each from the best source there is.
    pub fn replay_inputs<'a>(&'a self, decision: &Decision) -> ReplayInputs<'a> {
        const NO_FACTS: &Behaviour = &Behaviour {
            has_tdp_root_level: false,
            has_max_tdp_level: false,
            has_cached_tdp_level: false,
            has_maxguestphyaddr: false,
            has_guest_mtrr_types: false,
            passthrough_bit: None,
            invalid_bit: None,
            ret_pf: None,
        };
        let behaviour = self.facts.as_ref().map_or(NO_FACTS, |facts| &facts.behaviour);
        let inputs = &decision.inputs;
        ReplayInputs {
            behaviour,
            nested: decision.nested,
            tdp_enabled: self.tdp_enabled(inputs),
            forced: at_that_moment("tdp_root_level", inputs.tdp_root_level)
                .or_else(|| self.argument("tdp_forced_root_level", |args| args.forced_root_level))
                .unwrap_or_else(|| self.fact(|facts| facts.kvm.tdp_root_level.clone()))
                .or(|| self.none_forced(behaviour)),
            max: at_that_moment("max_tdp_level", inputs.max_tdp_level)
                .or_else(|| self.argument("tdp_max_root_level", |args| args.max_root_level))
                .unwrap_or_else(|| self.fact(|facts| facts.kvm.max_tdp_level.clone()))
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

    /// What a fresh decision would be taken on, for a vCPU with this MAXPHYADDR.
    pub fn fresh_inputs(&self, maxphyaddr: Option<u32>, inputs: &Inputs) -> ReplayInputs<'_> {
        let decision = Decision { maxphyaddr, inputs: *inputs, ..Decision::default() };
        self.replay_inputs(&decision)
    }

    /// `tdp_enabled` at a moment.
    pub fn tdp_enabled(&self, inputs: &Inputs) -> Fact<bool> {
        at_that_moment("tdp_enabled", inputs.tdp_enabled)
            .or_else(|| self.argument("enable_tdp", |args| Some(args.enable_tdp)))
            .unwrap_or_else(|| self.fact(|facts| facts.kvm.tdp_enabled.clone()))
    }

    /// `enable_ept_ad_bits` at a moment.
    pub fn enable_ept_ad_bits(&self, inputs: &Inputs) -> Fact<bool> {
        at_that_moment("enable_ept_ad_bits", inputs.enable_ept_ad_bits)
            .unwrap_or_else(|| self.fact(|facts| facts.kvm.enable_ept_ad_bits.clone()))
    }

    /// Bits of an address that encrypt and do not address: 0 where the kernel has no such mask.
    pub fn encryption_mask(&self) -> u64 {
        self.facts.as_ref().and_then(|facts| facts.kvm.encryption_mask.value()).unwrap_or(0)
    }

    /// What the hardware makes of the walk that is being judged.
    pub fn translated(&self) -> Option<&Result<Translated, String>> {
        self.translated.as_ref()
    }

    /// What faults were resolved to, before the observation that is being judged.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// The entries as their changes left them, the observation that is being judged included.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What was last seen of the vCPUs, before the observation that is being judged.
    pub fn vcpus(&self) -> &Vcpus {
        &self.vcpus
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

    fn argument<T: Copy>(
        &self,
        name: &str,
        get: impl Fn(&ConfigureMmu) -> Option<T>,
    ) -> Option<Fact<T>> {
        let value = self.configured.as_ref().and_then(get)?;
        Some(Fact::known(value, format!("{name}, argument of kvm_configure_mmu")))
    }
}

fn at_that_moment<T: Copy>(name: &str, value: Option<T>) -> Option<Fact<T>> {
    Some(Fact::known(value?, format!("{name}, read at that moment")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hardware, KvmState};

    /// Facts in which every level is 3 and the capability of the hardware walks 5.
    fn facts(vendor: Vendor) -> KernelFacts {
        KernelFacts {
            release: String::new(),
            vendor,
            behaviour: Behaviour {
                has_tdp_root_level: true,
                has_max_tdp_level: true,
                ..Behaviour::default()
            },
            hardware: Hardware {
                ept_vpid_cap: Fact::known(1 << 7, "MSR"),
                offers_ept: Fact::known(true, "MSR"),
                differing_ept_vpid_cap: Vec::new(),
                host_la57: Fact::known(true, "test"),
                maxphyaddr: Fact::known(52, "test"),
            },
            kvm: KvmState {
                tdp_enabled: Fact::known(false, "kcore"),
                max_tdp_level: Fact::known(3, "kcore"),
                tdp_root_level: Fact::known(3, "kcore"),
                enable_ept: Fact::known(true, "kcore"),
                vmx_capability_ept: Fact::known(0, "kcore"),
                npt_enabled: Fact::unknown("no kvm_amd"),
                enable_ept_ad_bits: Fact::known(true, "kcore"),
                ..KvmState::default()
            },
        }
    }

    const ARGUMENTS: ConfigureMmu = ConfigureMmu {
        enable_tdp: true,
        forced_root_level: Some(4),
        max_root_level: Some(4),
        huge_page_level: Some(3),
    };

    /// 5.8: the level is cached in the vCPU, and there is neither variable nor argument.
    fn cached(vendor: Vendor) -> KernelFacts {
        let mut facts = facts(vendor);
        facts.behaviour = Behaviour { has_cached_tdp_level: true, ..Behaviour::default() };
        facts.kvm.max_tdp_level = Fact::unknown("no symbol max_tdp_level");
        facts.kvm.tdp_root_level = Fact::unknown("no symbol tdp_root_level");
        facts
    }

    fn told(events: impl IntoIterator<Item = EventKind>) -> Known {
        let mut known = Known::default();
        for event in events {
            known.learn(&event);
        }
        known
    }

    fn tell(facts: &KernelFacts) -> EventKind {
        EventKind::Facts(Box::new(facts.clone()))
    }

    fn levels(known: &Known, decision: &Decision) -> (Option<bool>, Option<u8>, Option<u8>) {
        let inputs = known.replay_inputs(decision);
        (inputs.tdp_enabled.value(), inputs.forced.value(), inputs.max.value())
    }

    #[test]
    fn the_decision_beats_the_arguments_and_the_arguments_beat_the_facts() {
        let known = told([tell(&facts(Vendor::Vmx))]);
        assert_eq!(levels(&known, &Decision::default()), (Some(false), Some(3), Some(3)));
        let known = told([tell(&facts(Vendor::Vmx)), EventKind::ConfigureMmu(ARGUMENTS)]);
        assert_eq!(levels(&known, &Decision::default()), (Some(true), Some(4), Some(4)));
        let inputs = known.replay_inputs(&Decision::default()).max.origin().to_owned();
        assert_eq!(inputs, "tdp_max_root_level, argument of kvm_configure_mmu");
        let read = Inputs {
            tdp_enabled: Some(false),
            max_tdp_level: Some(5),
            tdp_root_level: Some(0),
            ..Inputs::default()
        };
        let decision = Decision { inputs: read, ..Decision::default() };
        assert_eq!(levels(&known, &decision), (Some(false), Some(0), Some(5)));
        let origin = known.replay_inputs(&decision).forced.origin().to_owned();
        assert_eq!(origin, "tdp_root_level, read at that moment");
    }

    #[test]
    fn each_input_has_its_own_best_source() {
        let only_max = ConfigureMmu { forced_root_level: None, ..ARGUMENTS };
        let known = told([tell(&facts(Vendor::Vmx)), EventKind::ConfigureMmu(only_max)]);
        let read = Inputs { tdp_enabled: Some(false), ..Inputs::default() };
        let decision = Decision { inputs: read, ..Decision::default() };
        assert_eq!(levels(&known, &decision), (Some(false), Some(3), Some(4)));
    }

    #[test]
    fn new_facts_clear_the_arguments_before_them() {
        let facts = tell(&facts(Vendor::Vmx));
        let known = told([facts.clone(), EventKind::ConfigureMmu(ARGUMENTS), facts]);
        assert_eq!(levels(&known, &Decision::default()), (Some(false), Some(3), Some(3)));
    }

    #[test]
    fn other_events_change_nothing() {
        let mut known = told([tell(&facts(Vendor::Vmx)), EventKind::ConfigureMmu(ARGUMENTS)]);
        known.learn(&EventKind::HardwareSetup { function: "hardware_setup".to_owned() });
        known.learn(&EventKind::Gap { reason: "test".to_owned() });
        known.learn(&EventKind::Decision(Box::default()));
        assert_eq!(levels(&known, &Decision::default()), (Some(true), Some(4), Some(4)));
    }

    #[test]
    fn a_cached_level_comes_from_the_capability() {
        let mut facts = cached(Vendor::Vmx);
        facts.kvm.tdp_enabled = Fact::known(true, "kcore");
        let known = told([tell(&facts)]);
        assert_eq!(levels(&known, &Decision::default()), (Some(true), Some(0), Some(5)));
        assert_eq!(known.replay_inputs(&Decision::default()).max.origin(), "MSR");
        facts.hardware.ept_vpid_cap = Fact::unknown("no /dev/cpu/0/msr");
        let known = told([tell(&facts)]);
        let inputs = known.replay_inputs(&Decision::default());
        assert_eq!(inputs.max, Fact::known(4, "kcore"), "KVM's own copy says 4 levels");
        facts.kvm.vmx_capability_ept = Fact::unknown("no symbol vmx_capability");
        let known = told([tell(&facts)]);
        let inputs = known.replay_inputs(&Decision::default());
        assert_eq!(inputs.max, Fact::unknown("no symbol vmx_capability"));
    }

    #[test]
    fn only_vmx_with_a_cached_level_asks_the_capability() {
        let decision = Decision::default();
        let known = told([tell(&cached(Vendor::Svm))]);
        assert_eq!(levels(&known, &decision), (Some(false), None, None));
        let mut unread = facts(Vendor::Vmx);
        unread.kvm.max_tdp_level = Fact::unknown("hidden");
        unread.kvm.tdp_root_level = Fact::unknown("hidden");
        // A kernel with the variables has them for a reason, whatever the vCPU caches.
        unread.behaviour.has_cached_tdp_level = true;
        let known = told([tell(&unread)]);
        assert_eq!(levels(&known, &decision), (Some(false), None, None));
    }

    #[test]
    fn without_facts_nothing_is_assumed() {
        let known = Known::default();
        assert_eq!(levels(&known, &Decision::default()), (None, None, None));
        assert_eq!(known.vendor(), &Vendor::None);
        assert_eq!(known.capability(), Fact::unknown("no facts of the machine"));
    }

    #[test]
    fn a_maxphyaddr_that_is_no_width_is_unknown() {
        let known = Known::default();
        let maxphyaddr = |maxphyaddr| {
            let decision = Decision { maxphyaddr, ..Decision::default() };
            known.replay_inputs(&decision).maxphyaddr.value()
        };
        assert_eq!(maxphyaddr(Some(255)), Some(255));
        assert_eq!(maxphyaddr(Some(256)), None, "and not 0");
        assert_eq!(maxphyaddr(None), None);
    }
}
