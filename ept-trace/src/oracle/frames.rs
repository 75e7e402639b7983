//! What faults were resolved to: the frame and the level of each guest frame, as long as nothing has
//! taken it away.

use std::collections::BTreeMap;

use crate::model::{EventKind, Requested, Walk};

/// Enough for the working set of a large guest. Beyond it everything is forgotten, for what is not
/// known is not judged.
const MOST_REMEMBERED: usize = 1 << 18;

/// By VM, root, the root's role (that of system-management mode is another) and guest frame.
type Key = (u32, u64, Option<u32>, u64);

/// What faults were resolved to.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    resolved: BTreeMap<Key, Resolved>,
}

/// What a fault was resolved to, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What was requested.
    pub requested: Requested,
    /// `mmu_invalidate_seq` and the generation of the memslots.
    at: (u64, u64),
}

impl Frames {
    /// What was to be mapped for the address of a walk: by its own fault, else by an earlier one
    /// since when the host has taken no page away and the memslots are the same.
    pub fn of(&self, walk: &Walk) -> Option<(Requested, &'static str)> {
        if let Some(requested) = walk.requested {
            return is_frame(requested).then_some((requested, "kvm_mmu_spte_requested"));
        }
        let resolved = self.resolved.get(&key(walk)?)?;
        let is_same = resolved.at == moment(walk)?;
        is_same.then_some((resolved.requested, "kvm_mmu_spte_requested, an earlier fault"))
    }

    /// Keeps what an observation tells.
    pub fn note(&mut self, event: &EventKind) {
        match event {
            EventKind::Walk(walk) => {
                let (Some(key), Some(requested), Some(at)) =
                    (key(walk), walk.requested, moment(walk))
                else {
                    return;
                };
                if self.resolved.len() >= MOST_REMEMBERED {
                    self.resolved.clear();
                }
                if walk.races.is_empty() && !walk.sampled && is_frame(requested) {
                    self.resolved.insert(key, Resolved { requested, at });
                } else {
                    self.resolved.remove(&key);
                }
            }
            EventKind::VmGone { vm } => {
                // VMs may come and go by the hundred: only what is of this one is looked at.
                let all = (*vm, 0, None, 0)..=(*vm, u64::MAX, Some(u32::MAX), u64::MAX);
                self.resolved.extract_if(all, |_, _| true).for_each(drop);
            }
            // A fault that was not seen may have mapped it otherwise.
            EventKind::Loss { .. } | EventKind::Gap { .. } => self.resolved.clear(),
            _ => {}
        }
    }
}

/// Of L2 neither root nor frame stays what it is: L1 changes its tables when it likes.
fn key(walk: &Walk) -> Option<Key> {
    let role = walk.roles.first().copied();
    (!walk.nested).then_some((walk.vm, walk.root_hpa?, role, walk.gpa >> 12))
}

/// KVM has no frame for MMIO and for what failed, and marks that by bits that no frame has.
fn is_frame(requested: Requested) -> bool {
    requested.pfn >> 52 == 0
}

fn moment(walk: &Walk) -> Option<(u64, u64)> {
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
