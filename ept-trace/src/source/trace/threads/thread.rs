//! A thread of a log: what it has told so far, and what waits until more is told.

use super::super::PageRole;
use crate::model::{Event, EventKind, Fact, Requested, Root};

/// The vCPUs that one thread is known to run; a thread that runs more is taken for new each time.
pub(super) const MOST_OF_A_THREAD: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) tgid: u32,
    /// How often something was lost before it was seen last.
    pub(super) losses: u64,
    /// The vCPU that it runs, and those that it has run.
    pub(super) vcpu: Option<u32>,
    pub(super) has_run: Vec<u32>,
    /// The host takes pages away by it: what it changes may be of any VM.
    pub(super) in_notifier: bool,
    /// The guest is L1, and L2 runs.
    pub(super) in_l2: bool,
    /// Something is to be mapped, since it last entered the guest.
    pub(super) is_mapping: bool,
    /// Taken since it last entered the guest.
    pub(super) roots: Vec<(u64, u64, PageRole)>,
    /// Roots of a guest that was not told its MAXPHYADDR yet.
    pub(super) untold: Vec<Untold>,
    /// MAXPHYADDR, as the guest was told it, and which guest that was.
    pub(super) told: Option<(Guest, u8)>,
    pub(super) root_level: Option<u8>,
    pub(super) ad_disabled: Option<bool>,
    pub(super) fault: Option<FaultTold>,
}

/// A guest as far as a thread knows: its vCPU, and how many vCPUs had been made by then. A thread may
/// run one VM after another, and what one guest was told is nothing to the next.
pub(super) type Guest = (u32, u64);

/// A root that waits for what its guest is told.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) time_ns: u64,
    pub(super) guest: Guest,
    pub(super) root: Root,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FaultTold {
    pub(super) gpa: u64,
    pub(super) error_code: u64,
    pub(super) requested: Option<Requested>,
    /// Another thread has changed an entry on the way.
    pub(super) is_raced: bool,
}

impl Thread {
    /// A page is taken for a table. What is no lower than every root may be one: a table of 4 levels
    /// below a root of 5 is made at a fault, and a root before the guest is entered.
    pub(super) fn page(&mut self, time_ns: u64, gfn: u64, role: PageRole) {
        let is_root = match role.level() {
            5 => true,
            4 => self.fault.is_none() && !self.is_mapping,
            _ => false,
        };
        // A thread that takes roots without end never enters a guest.
        if is_root && self.roots.len() < MOST_OF_A_THREAD {
            self.roots.push((time_ns, gfn, role));
        }
    }

    /// Tells the roots of the guest that was told its MAXPHYADDR. Pages of 4 levels wait until the log
    /// is known to tell links: else they may be tables below a root of 5.
    pub(super) fn tell_told(&mut self, tells_links: bool, events: &mut Vec<Event>) {
        let Some((guest, bits)) = self.told else { return };
        let maxphyaddr = Some(Fact::known(bits, "kvm_cpuid, leaf 0x80000008"));
        let is_told = |of: &mut Untold| of.is_sure(tells_links) && of.guest == guest;
        let told = self.untold.extract_if(.., is_told);
        events.extend(told.map(|untold| untold.tell(maxphyaddr.clone())));
    }

    /// Tells all roots, with what the user says of MAXPHYADDR.
    pub(super) fn tell_all(
        &mut self,
        given: Option<&Fact<u8>>,
        tells_links: bool,
        events: &mut Vec<Event>,
    ) {
        let sure = self.untold.extract_if(.., |of| of.is_sure(tells_links));
        events.extend(sure.map(|untold| untold.tell(given.cloned())));
    }
}

impl Untold {
    pub(super) fn is_sure(&self, tells_links: bool) -> bool {
        self.root.level() == 5 || tells_links
    }

    pub(super) fn tell(self, maxphyaddr: Option<Fact<u8>>) -> Event {
        let kind = EventKind::Root(Root { maxphyaddr, ..self.root });
        Event { time_ns: self.time_ns, kind }
    }
}
