//! What was last seen of each vCPU: what a later observation of it, or of its neighbours in the
//! same VM, is held against.

use std::collections::BTreeMap;

use crate::model::EventKind;

/// More vCPUs than any host runs. Beyond it those of the VM that was first seen are forgotten.
const MOST_REMEMBERED: usize = 1 << 16;

/// A vCPU as it was last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// At its last decision.
    pub decided: Option<Decided>,
    /// The TDP root that it has last been given, unless something was decided since.
    pub loaded: Option<Loaded>,
    /// It was given a root once: there are pages made for it.
    pub has_run: bool,
}

/// What came of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// `arch.maxphyaddr`.
    pub maxphyaddr: Option<u32>,
    /// Level of the root MMU.
    pub root_level: Option<u8>,
}

/// A root in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// `arch.maxphyaddr` at that moment.
    pub maxphyaddr: Option<u32>,
    /// The level that was handed to the hardware.
    pub level: u8,
}

/// All vCPUs, by VM and `vcpu_id`.
#[derive(Clone, Debug, Default)]
pub struct Vcpus {
    seen: BTreeMap<(u32, u32), Vcpu>,
}

impl Vcpus {
    /// What was last seen of a vCPU.
    pub fn get(&self, vm: u32, vcpu: u32) -> Vcpu {
        self.seen.get(&(vm, vcpu)).copied().unwrap_or_default()
    }

    /// The other vCPUs of its VM.
    pub fn others(&self, vm: u32, vcpu: u32) -> impl Iterator<Item = (u32, &Vcpu)> {
        let of_vm = self.seen.range((vm, 0)..=(vm, u32::MAX));
        of_vm.map(|((_, id), seen)| (*id, seen)).filter(move |(id, _)| *id != vcpu)
    }

    /// Keeps what is seen now.
    pub fn note(&mut self, event: &EventKind) {
        match event {
            EventKind::Decision(decision) => {
                let decided = Decided {
                    maxphyaddr: decision.maxphyaddr,
                    root_level: decision.after.root_level,
                };
                let vcpu = self.entry(decision.vm, decision.vcpu);
                *vcpu = Vcpu { decided: Some(decided), loaded: None, has_run: vcpu.has_run };
            }
            EventKind::Load(load) if !load.nested && load.is_tdp() => {
                let loaded = Loaded { maxphyaddr: load.maxphyaddr, level: load.level };
                let vcpu = self.entry(load.vm, load.vcpu);
                *vcpu = Vcpu { loaded: Some(loaded), has_run: true, ..*vcpu };
            }
            EventKind::VmGone { vm } => self.forget(*vm),
            // What was lost may have been about any of them.
            EventKind::Loss { .. } | EventKind::Gap { .. } => self.seen.clear(),
            _ => {}
        }
    }

    fn entry(&mut self, vm: u32, vcpu: u32) -> &mut Vcpu {
        if self.seen.len() >= MOST_REMEMBERED
            && !self.seen.contains_key(&(vm, vcpu))
            && let Some((&(first, _), _)) = self.seen.first_key_value()
        {
            self.forget(first);
        }
        self.seen.entry((vm, vcpu)).or_default()
    }

    fn forget(&mut self, vm: u32) {
        self.seen.extract_if((vm, 0)..=(vm, u32::MAX), |_, _| true).for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decision, Load};

    fn load(vm: u32, vcpu: u32, level: u8) -> EventKind {
        EventKind::Load(Box::new(Load { vm, vcpu, level, eptp: Some(0), ..Load::default() }))
    }

    fn levels(vcpus: &Vcpus, vm: u32, vcpu: u32) -> Vec<(u32, Option<u8>)> {
        let level = |(id, seen): (u32, &Vcpu)| (id, seen.loaded.map(|loaded| loaded.level));
        vcpus.others(vm, vcpu).map(level).collect()
    }

    #[test]
    fn neighbours_are_those_of_the_same_vm() {
        let mut vcpus = Vcpus::default();
        for event in [load(1, 0, 4), load(2, 0, 4), load(2, 1, 5), load(3, 0, 4)] {
            vcpus.note(&event);
        }
        assert_eq!(levels(&vcpus, 2, 0), [(1, Some(5))]);
        vcpus.note(&EventKind::VmGone { vm: 2 });
        assert_eq!(levels(&vcpus, 2, 0), []);
        assert_eq!(levels(&vcpus, 3, 9), [(0, Some(4))]);
        assert_eq!(levels(&vcpus, 1, 9), [(0, Some(4))]);
    }

    #[test]
    fn a_decision_puts_the_root_before_it_out_of_use() {
        let mut vcpus = Vcpus::default();
        vcpus.note(&load(1, 0, 4));
        vcpus.note(&EventKind::Decision(Box::new(Decision { vm: 1, ..Decision::default() })));
        assert_eq!(vcpus.get(1, 0).loaded, None);
        vcpus.note(&load(1, 0, 5));
        vcpus.note(&EventKind::Gap { reason: String::new() });
        assert_eq!(vcpus.get(1, 0), Vcpu::default(), "what came meanwhile is not known");
    }

    #[test]
    fn roots_of_shadow_paging_are_not_kept() {
        let mut vcpus = Vcpus::default();
        let soft = Load { vm: 1, level: 3, ..Load::default() };
        vcpus.note(&EventKind::Load(Box::new(soft)));
        assert_eq!(vcpus.get(1, 0), Vcpu::default());
    }

    #[test]
    fn memory_is_bounded() {
        let mut vcpus = Vcpus::default();
        for vm in 0..=u32::try_from(MOST_REMEMBERED).unwrap() {
            vcpus.note(&load(vm, 0, 4));
        }
        assert_eq!(vcpus.seen.len(), MOST_REMEMBERED);
        assert_eq!(vcpus.get(0, 0), Vcpu::default(), "the first VM went");
    }
}
