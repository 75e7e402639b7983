//! What faults were resolved to: the frame and the level of each guest frame, as long as nothing has
//! taken it away.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::model::{EventKind, Requested, Walk};

/// Enough for the working set of a large guest. Beyond it everything is forgotten, for what is not
/// known is not judged.
const MOST_REMEMBERED: usize = 1 << 18;

/// By root, the root's role (that of system-management mode is another) and guest frame.
type Key = (u64, Option<u32>, u64);

/// `mmu_invalidate_seq` and the generation of the memslots.
type Moment = (u64, u64);

/// What faults were resolved to.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    vms: BTreeMap<u32, Resolved>,
    /// How many frames that are, of all VMs.
    count: usize,
}

/// The faults of a VM since the host has taken a page away, or the memslots have changed: those before
/// tell nothing any more.
#[derive(Clone, Debug)]
struct Resolved {
    since: Moment,
    frames: HashMap<Key, Requested, RandomState>,
}

impl Frames {
    /// What was to be mapped for the address of a walk: by its own fault, else by an earlier one
    /// since when the host has taken no page away and the memslots are the same.
    pub fn of(&self, walk: &Walk) -> Option<(Requested, &'static str)> {
        if let Some(requested) = walk.requested {
            return is_frame(requested).then_some((requested, "kvm_mmu_spte_requested"));
        }
        let resolved = self.vms.get(&walk.vm)?;
        let requested = *resolved.frames.get(&key(walk)?)?;
        let is_same = resolved.since == moment(walk)?;
        is_same.then_some((requested, "kvm_mmu_spte_requested, an earlier fault"))
    }

    /// Keeps what an observation tells.
    pub fn note(&mut self, event: &EventKind) {
        match event {
            EventKind::Walk(walk) => {
                if let (Some(key), Some(requested), Some(at)) =
                    (key(walk), walk.requested, moment(walk))
                {
                    let is_certain = walk.races.is_empty() && !walk.sampled && is_frame(requested);
                    self.resolve(walk.vm, at, key, is_certain.then_some(requested));
                }
            }
            EventKind::VmGone { vm } => {
                let gone = self.vms.remove(vm);
                self.count -= gone.map_or(0, |resolved| resolved.frames.len());
            }
            // A fault that was not seen may have mapped it otherwise.
            EventKind::Loss { .. } | EventKind::Gap { .. } => self.forget(),
            _ => {}
        }
    }

    fn resolve(&mut self, vm: u32, at: Moment, key: Key, requested: Option<Requested>) {
        if self.count >= MOST_REMEMBERED {
            self.forget();
        }
        let fresh = || Resolved { since: at, frames: HashMap::default() };
        let resolved = self.vms.entry(vm).or_insert_with(fresh);
        self.count -= resolved.frames.len();
        if resolved.since != at {
            resolved.since = at;
            resolved.frames.clear();
        }
        match requested {
            Some(requested) => resolved.frames.insert(key, requested),
            None => resolved.frames.remove(&key),
        };
        self.count += resolved.frames.len();
    }

    fn forget(&mut self) {
        self.vms.clear();
        self.count = 0;
    }
}

/// Of L2 neither root nor frame stays what it is: L1 changes its tables when it likes.
fn key(walk: &Walk) -> Option<Key> {
    let role = walk.roles.first().copied();
    (!walk.nested).then_some((walk.root_hpa?, role, walk.gpa >> 12))
}

/// KVM has no frame for MMIO and for what failed, and marks that by bits that no frame has.
fn is_frame(requested: Requested) -> bool {
    requested.pfn >> 52 == 0
}

fn moment(walk: &Walk) -> Option<Moment> {
    walk.notifier_seq.zip(walk.slots_generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTED: Requested = Requested { gfn: 0x10, pfn: 0x1234, level: 1 };

    fn walk() -> Walk {
        Walk {
            vm: 1,
            gpa: 0x10_000,
            root_hpa: Some(0x5000),
            notifier_seq: Some(7),
            slots_generation: Some(3),
            ..Walk::default()
        }
    }

    fn known(walk: &Walk) -> Option<Requested> {
        let mut frames = Frames::default();
        let first = Walk { requested: Some(REQUESTED), ..self::walk() };
        frames.note(&EventKind::Walk(Box::new(first)));
        frames.of(walk).map(|(requested, _)| requested)
    }

    #[test]
    fn a_frame_is_known_until_something_may_have_taken_it_away() {
        assert_eq!(known(&walk()), Some(REQUESTED));
        let own = Requested { pfn: 1, ..REQUESTED };
        assert_eq!(known(&Walk { requested: Some(own), ..walk() }), Some(own));
        for other in [
            Walk { notifier_seq: Some(8), ..walk() },
            Walk { slots_generation: Some(4), ..walk() },
            Walk { slots_generation: None, ..walk() },
            Walk { root_hpa: Some(0x6000), ..walk() },
            Walk { gpa: 0x11_000, ..walk() },
            Walk { vm: 2, ..walk() },
            Walk { nested: true, ..walk() },
            Walk { roles: vec![1 << 24], ..walk() },
        ] {
            assert_eq!(known(&other), None, "{other:?}");
        }
    }

    #[test]
    fn what_tells_nothing_any_more_is_not_kept() {
        let mut frames = Frames::default();
        let mut note = |number: u64, notifier_seq| {
            let walk = Walk {
                root_hpa: Some(number << 12),
                notifier_seq: Some(notifier_seq),
                requested: Some(REQUESTED),
                ..walk()
            };
            frames.note(&EventKind::Walk(Box::new(walk)));
            (frames.count, frames.vms[&1].frames.len())
        };
        assert_eq!((1..=3).map(|root| note(root, 7)).last(), Some((3, 3)));
        assert_eq!((4..=9).map(|root| note(root, root + 8)).last(), Some((1, 1)));
        frames.note(&EventKind::VmGone { vm: 1 });
        assert_eq!((frames.count, frames.vms.len()), (0, 0));
    }

    #[test]
    fn what_is_no_frame_is_not_one() {
        let no_slot = Requested { pfn: 1 << 63, ..REQUESTED };
        assert_eq!(known(&Walk { requested: Some(no_slot), ..walk() }), None);
    }

    #[test]
    fn what_is_lost_may_have_changed_it() {
        for event in [
            EventKind::Loss { hook: String::new(), records: 1 },
            EventKind::Gap { reason: String::new() },
            EventKind::VmGone { vm: 1 },
        ] {
            let mut frames = Frames::default();
            let first = Walk { requested: Some(REQUESTED), ..walk() };
            frames.note(&EventKind::Walk(Box::new(first)));
            frames.note(&event);
            assert_eq!(frames.of(&walk()), None, "{event:?}");
        }
    }
}
