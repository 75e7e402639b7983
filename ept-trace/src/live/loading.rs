//! Modules that come and go, and what has to wait until a new one has been looked at.

use ept_trace_common::abi::ConfigureRecord;

use crate::kernel::{Modules, Presence};
use crate::model::{Event, EventKind, Inputs, Nested};

/// Decisions that wait at most. A load takes a second or two; who decides more often than this
/// meanwhile is told that some were not judged.
const MOST_WAITING: usize = 1 << 16;

/// Looks at the modules without one of them before a load counts as failed.
const PATIENCE: u32 = 10;

/// What is to be done after a look at the modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// A module is being loaded: wait.
    Pending,
    /// The machine has to be read anew.
    Stale,
}

/// Keeps track of the modules.
///
/// From `hardware_setup` on, what is known of the machine is of the module before. So a decision
/// waits until the machine was read anew: it is judged on the module that took it, or not at all.
#[derive(Debug)]
pub(super) struct Loading {
    modules: Modules,
    /// Looks since a vendor module began to load.
    since: Option<u32>,
    waiting: Vec<Waiting>,
}

/// What waits, in the order of time: between two loads that were read as one, the call of
/// `kvm_configure_mmu` tells which decisions belong to which.
#[derive(Debug)]
pub(super) enum Waiting {
    /// What its arguments mean is known when kvm was looked at.
    Configure(ConfigureRecord),
    /// What is about a guest.
    Event(Event),
}

impl Loading {
    pub(super) fn new(modules: Modules) -> Self {
        Self { modules, since: None, waiting: Vec::new() }
    }

    /// A vendor module is being loaded.
    pub(super) fn began(&mut self) {
        self.since = Some(0);
    }

    /// It calls `kvm_configure_mmu`.
    pub(super) fn configured(&mut self, record: ConfigureRecord) {
        self.began();
        self.waiting.push(Waiting::Configure(record));
    }

    /// Passes an event on, unless it has to wait.
    pub(super) fn pass(&mut self, mut event: Event) -> Option<Event> {
        let is_about_a_guest = event.kind.is_about_a_guest();
        if self.since.is_some() && is_about_a_guest {
            if self.waiting.len() >= MOST_WAITING {
                let reason = "more was seen of guests than can wait for a module".to_owned();
                return Some(Event { kind: EventKind::Gap { reason }, ..event });
            }
            forget_module(&mut event.kind);
            self.waiting.push(Waiting::Event(event));
            return None;
        }
        Some(event)
    }

    /// Looks at the modules.
    pub(super) fn look(&mut self) -> Change {
        let modules = Modules::read();
        let changed = modules != self.modules;
        let in_transit = modules.vendor.1 == Presence::InTransit;
        let is_live = modules.vendor_is_live();
        self.modules = modules;
        match &mut self.since {
            Some(_) if in_transit => Change::Pending,
            Some(looks) if !is_live && *looks < PATIENCE => {
                *looks += 1;
                Change::Pending
            }
            Some(_) => Change::Stale,
            None if changed => Change::Stale,
            None => Change::None,
        }
    }

    /// Whether the modules are still those that were last looked at.
    pub(super) fn is_unchanged(&self) -> bool {
        Modules::read() == self.modules
    }

    /// The machine was read anew: gives back what has waited.
    pub(super) fn settled(&mut self) -> Vec<Waiting> {
        self.since = None;
        std::mem::take(&mut self.waiting)
    }
}

/// Takes out what was read by the addresses and offsets of the module before, if at all.
fn forget_module(kind: &mut EventKind) {
    match kind {
        EventKind::Decision(decision) => {
            decision.inputs = Inputs::default();
            decision.after.page_fault = None;
            if let Some(before) = &mut decision.before {
                before.page_fault = None;
            }
        }
        EventKind::Load(load) => {
            load.inputs = Inputs::default();
            load.page_role = None;
        }
        EventKind::ShadowMmu(mmu) => {
            mmu.inputs = Inputs::default();
            mmu.nested = match mmu.nested {
                Nested::Ept { .. } => Nested::Ept { eptp12: None, shown: None },
                Nested::Npt { .. } => Nested::Npt { l1: None },
            };
        }
        _ => {}
    }
}
