//! The entries of each VM's tables as their changes left them, and what of that cannot be.
//!
//! A change of the TDP MMU is told with the entry before and after, and without the table that it is
//! in: the tables of several roots have entries for the same guest frame. So a place, which is an
//! address space, a level and a frame, holds a *set* of entries. Each change takes one out and puts
//! one in; and a place has no more entries than there are tables for it, which the place above says.
//!
//! A change is told right after it was made, and by whoever made it: two that are made on two CPUs
//! may be told in the other order. So what does not fit is a [`Doubt`] at first. What is told within
//! [`GRACE_NS`] may clear it; what is left then cannot be, and is a [`Finding`].

mod image;
mod place;
mod shape;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

pub use self::image::{Image, ROOT};
use self::place::{Above, Changed, Key, Place};
pub use self::shape::LevelShape;
use self::shape::Shape;
use super::spte::Mapping;
use crate::model::{Event, EventKind, InLog, SpteChange};

/// Whoever makes a change holds `mmu_lock`, and is not preempted between the change and telling it
/// (on kernels without `PREEMPT_RT`): a thousand times less than this.
const GRACE_NS: u64 = 1_000_000_000;
/// The same, for what is in a table that was taken out since.
const GRACE_OF_THE_GONE_NS: u64 = 1_000_000;
/// The places of a VM that are kept: 1 GiB in pages of 4 KiB. A VM with more is not judged.
const MOST_PLACES: usize = 1 << 18;
/// The VMs that are kept, their places together, and the doubts. Beyond that all is forgotten.
const MOST_VMS: usize = 1 << 10;
const MOST_PLACES_OF_ALL: usize = 1 << 20;
const MOST_DOUBTS: usize = 1 << 10;
/// Levels of the tables of VMs that are gone, of which the shape is kept.
const MOST_SHAPES: usize = 1 << 10;

/// The number that all VMs of a log have together. A place holds a set of entries, so that those of
/// several VMs can be followed as if they were several roots of one.
const LOG: u32 = 0;

/// The entries of all VMs whose history is whole.
#[derive(Clone, Debug, Default)]
pub struct History {
    vms: BTreeMap<u32, Tables>,
    doubts: Vec<Doubt>,
    /// The newest VM that was heard of.
    newest: u32,
    /// The history of VMs up to this one has a hole.
    torn_to: Option<u32>,
    /// How many places all VMs have.
    places: usize,
    /// The tables of VMs that are gone.
    gone: Vec<LevelShape>,
    /// Of the observation that is being judged.
    fits: Option<bool>,
    findings: Vec<Finding>,
    unexplained: Option<Finding>,
}

/// The tables of a VM.
#[derive(Clone, Debug, Default)]
struct Tables {
    /// Everything was seen; else nothing is kept.
    is_whole: bool,
    places: HashMap<Key, Place, RandomState>,
    shape: Shape,
}

/// What is wrong with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The entry before it is not what the changes left there.
    Missing,
    /// There was no entry before it, and the changes have left one.
    Occupied,
    /// The table that it is in was never linked.
    NeverLinked,
    /// The table that it is in was linked once, and is no longer.
    Zapped,
}

/// A change that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// The change.
    pub change: SpteChange,
    /// When it was told.
    pub time_ns: u64,
    /// The addresses that the changes before it left at its place.
    pub left: Vec<u64>,
}

/// A change that does not fit yet.
#[derive(Clone, Debug)]
struct Doubt {
    finding: Finding,
    vm: u32,
    key: Key,
    /// What the entry was before,
    old: Option<Mapping>,
    /// and whether it still leads there.
    stays: bool,
    /// How many tables there were for the place.
    tables: usize,
    /// The VM is gone: nothing will be told of it any more.
    is_final: bool,
    /// If nothing clears it, it cannot be; else something was not told, or it cannot be.
    is_sure: bool,
}

impl History {
    /// Takes in an observation, before it is judged. Changes tell nothing where KVM has no bit for
    /// present entries.
    pub fn follow(&mut self, event: &Event, has_present_bit: bool) {
        self.fits = None;
        self.findings.clear();
        self.unexplained = None;
        self.newest = self.newest.max(event.kind.vm().unwrap_or(0));
        if let EventKind::SpteChange(_) | EventKind::VmGone { .. } = event.kind {
            self.settle(|doubt| doubt.is_due(event.time_ns));
        }
        match &event.kind {
            EventKind::SpteChange(change) if has_present_bit => self.change(change, event.time_ns),
            EventKind::VmGone { vm } => self.gone(*vm),
            EventKind::Loss { .. } | EventKind::Gap { .. } => self.tear(),
            EventKind::End => {
                self.bury(event.time_ns);
                self.settle(|doubt| doubt.is_final || doubt.is_due(event.time_ns));
            }
            _ => {}
        }
    }

    /// Whether the change that is being judged fits to those before it; `None` if that is not
    /// known.
    pub fn fits(&self) -> Option<bool> {
        self.fits
    }

    /// Changes of which it is certain by now that they cannot be.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// A change of a log by which its history ends: nothing before explains it, and it may be that
    /// something was not recorded.
    pub fn unexplained(&self) -> Option<&Finding> {
        self.unexplained.as_ref()
    }

    fn change(&mut self, change: &SpteChange, time_ns: u64) {
        let (Some(old_entry), Some(as_id), 1..=5) = (change.old, change.as_id, change.level) else {
            return;
        };
        let old = Mapping::of(old_entry, change.level);
        let new = Mapping::of(change.new, change.level);
        let Some(vm) = change.vm.or(change.in_log.map(|_| LOG)) else {
            // Marks of use are taken away by functions that do not tell the VM. What maps something
            // else is one of any VM.
            if old != new {
                self.tear();
            }
            return;
        };
        let tables = if let Some(tables) = self.vms.get_mut(&vm) {
            tables
        } else {
            let fresh = self.fresh(vm, change.from_start);
            self.vms.entry(vm).or_insert(fresh)
        };
        if !tables.is_whole {
            return;
        }
        if !change.from_start {
            self.drop_tables(vm);
            return;
        }
        let before = tables.places.len();
        let key = Key::new(as_id, change.level, change.gfn);
        let stays = old == new;
        let is_set = new.is_some() && !stays;
        let Changed { is_missing, left, held } = if stays {
            tables.mark(key, old, change.new)
        } else {
            let is_paid = new.is_some_and(|new| pay(&mut self.doubts, vm, key, new));
            tables.replace(key, old, (is_set && !is_paid).then_some(change.new))
        };
        if let Some(old) = old.filter(|_| !stays && !is_missing) {
            self.doubts.retain(|doubt| !doubt.is_cleared_by(vm, key, old));
        }
        // What is taken away as it was told is right wherever it was.
        let above = if is_missing || is_set { tables.above(key) } else { Above::default() };
        let mut fault = (is_missing && !above.is_unknown).then_some(Fault::Missing);
        if is_set {
            fault = fault.or_else(|| above.fault_of(key, held));
        }
        self.places = self.places + tables.places.len() - before;
        let is_too_large = tables.places.len() > MOST_PLACES;
        self.doubts.retain(|doubt| doubt.stands(vm, tables));
        self.fits = Some(fault.is_none());
        if is_too_large {
            self.drop_tables(vm);
        } else if self.places > MOST_PLACES_OF_ALL {
            self.tear();
        } else if let Some(fault) = fault {
            let is_sure = change.in_log != Some(InLog::Followed)
                || fault == Fault::Missing && is_nearly(old_entry, &left);
            let left = left.iter().filter_map(|entry| Mapping::of(*entry, change.level));
            let left = left.map(|mapping| mapping.address).collect();
            let finding = Finding { fault, change: change.clone(), time_ns, left };
            let tables = above.tables;
            let is_final = false;
            let doubt = Doubt { finding, vm, key, old, stays, tables, is_final, is_sure };
            self.doubts.push(doubt);
        }
        if self.doubts.len() > MOST_DOUBTS {
            self.tear();
        }
    }

    /// Of this VM nothing is kept any more.
    fn drop_tables(&mut self, vm: u32) {
        if let Some(tables) = self.vms.get_mut(&vm) {
            self.places -= std::mem::take(tables).places.len();
        }
        self.doubts.retain(|doubt| doubt.vm != vm || doubt.is_final);
    }

    /// The tables of a VM that is heard of for the first time.
    fn fresh(&mut self, vm: u32, from_start: bool) -> Tables {
        if self.vms.len() >= MOST_VMS {
            self.tear();
        }
        let is_whole = from_start && self.torn_to.is_none_or(|torn_to| vm > torn_to);
        Tables { is_whole, ..Tables::default() }
    }

    /// Whatever stood in doubt of a VM stays so.
    fn gone(&mut self, vm: u32) {
        if let Some(tables) = self.vms.remove(&vm) {
            self.places -= tables.places.len();
            if tables.is_whole && self.gone.len() < MOST_SHAPES {
                self.gone.extend(tables.shape.levels(vm));
            }
        }
        for doubt in self.doubts.iter_mut().filter(|doubt| doubt.vm == vm) {
            doubt.is_final = true;
        }
    }

    /// At the end: what was in a table that is gone is not told any more.
    fn bury(&mut self, now_ns: u64) {
        let is_old = |doubt: &Doubt| {
            now_ns.saturating_sub(doubt.finding.time_ns) >= GRACE_OF_THE_GONE_NS
                && doubt.finding.fault == Fault::Missing
        };
        for doubt in self.doubts.iter_mut().filter(|doubt| is_old(doubt)) {
            let above = self.vms.get(&doubt.vm).map(|tables| tables.above(doubt.key));
            doubt.is_final |= above.is_some_and(|above| above.had_table && above.tables == 0);
        }
    }

    /// Something was not seen, and may have been of any VM.
    fn tear(&mut self) {
        self.vms.clear();
        self.places = 0;
        self.doubts.clear();
        self.torn_to = Some(self.newest);
        self.fits = None;
    }

    /// Makes findings of the doubts that nothing will clear.
    fn settle(&mut self, is_certain: impl Fn(&Doubt) -> bool) {
        if self.doubts.is_empty() {
            return;
        }
        let mut rest = Vec::new();
        for doubt in std::mem::take(&mut self.doubts) {
            let tables = self.vms.get_mut(&doubt.vm);
            if tables.as_ref().is_some_and(|tables| !doubt.stands(doubt.vm, tables)) {
                continue;
            }
            if !is_certain(&doubt) {
                rest.push(doubt);
                continue;
            }
            if !doubt.is_sure {
                self.unexplained.get_or_insert(doubt.finding);
                continue;
            }
            if let Some(tables) = tables {
                let before = tables.places.len();
                tables.give_up(doubt.key);
                self.places = self.places + tables.places.len() - before;
            }
            self.findings.push(doubt.finding);
        }
        self.doubts = rest;
        if self.unexplained.is_some() {
            self.tear();
        }
    }
}

impl Doubt {
    /// Whether it is old enough.
    fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.finding.time_ns) >= GRACE_NS
    }

    /// Whether it is still one, as the tables of this VM are now.
    fn stands(&self, vm: u32, tables: &Tables) -> bool {
        if self.vm != vm || self.is_final {
            return true;
        }
        let above = tables.above(self.key);
        !above.is_unknown
            && match self.finding.fault {
                Fault::Missing => true,
                Fault::Occupied => above.tables <= self.tables,
                Fault::NeverLinked => !above.had_table,
                Fault::Zapped => tables.fault_at(self.key) == Some(Fault::Zapped),
            }
    }

    /// Whether an entry that is taken out is one that was in the way.
    fn is_cleared_by(&self, vm: u32, key: Key, entry: Mapping) -> bool {
        self.finding.fault == Fault::Occupied
            && (self.vm, self.key) == (vm, key)
            && self.finding.left.contains(&entry.address)
    }
}

/// Whether an entry is the only one at its place but for a bit or two: then it is that one, changed
/// by somebody else, and not one of another VM, whose address would have nothing to do with it.
fn is_nearly(entry: u64, left: &[u64]) -> bool {
    /// A, D and what the hardware does not look at; a page that is used differs in them anyway.
    const MARKS: u64 = 0xfff | 0xfff << 52;
    matches!(left, [only] if ((entry ^ only) & !MARKS).count_ones() <= 2)
}

/// An entry is put in: clears the doubts that had it there already. Whether it was taken out again
/// as well.
fn pay(doubts: &mut Vec<Doubt>, vm: u32, key: Key, entry: Mapping) -> bool {
    let mut was_taken = false;
    doubts.retain(|doubt| {
        let is_of_it = doubt.finding.fault == Fault::Missing
            && (doubt.vm, doubt.key, doubt.old) == (vm, key, Some(entry));
        let is_cleared = is_of_it && (doubt.stays || !was_taken);
        was_taken |= is_cleared && !doubt.stays;
        !is_cleared
    });
    was_taken
}

#[cfg(test)]
mod tests;
