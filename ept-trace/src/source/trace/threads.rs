//! What the records of a log mean together.
//!
//! Tracepoints of KVM's MMU tell neither VM nor vCPU. A thread tells its vCPU when it enters the
//! guest; a root that it takes before that is the vCPU's; a fault and what it is resolved to are
//! joined by the thread; and that a VM was not there before the log, so that all of its entries are
//! told, is known by its vCPUs: each was made in the log before it ran.

mod thread;

use std::collections::HashMap;

use self::thread::{FaultTold, MOST_OF_A_THREAD, Thread, Untold};
use super::{PageRole, Record, Said, Tracepoint};
use crate::model::{Event, EventKind, Fact, InLog, Race, Requested, Root, SpteChange, Walk};
use crate::oracle::IN_A_LOG;

/// More threads, or vCPUs, than this are not followed.
const MOST: usize = 1 << 14;
/// Threads at a fault that others are looked at for.
const MOST_AT_FAULT: usize = 256;
/// `isa` of `kvm_exit` for VMX.
const VMX: u8 = 1;
/// Of `kvm_mmu_page_role`.
const GUEST_MODE: u32 = 1 << 17;
const AD_DISABLED: u32 = 1 << 16;
/// An entry that KVM takes for present, since 5.13.
const MMU_PRESENT: u64 = 1 << 11;

/// The threads of a log.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Default)]
pub(super) struct Threads {
    all: Vec<Thread>,
    /// Where in `all` a thread is, by its id; and the last one that was looked for.
    places: HashMap<u32, usize>,
    last: Option<usize>,
    /// VMs by their processes, where those are told.
    vms: HashMap<u32, u32>,
    /// vCPUs that were made and not yet seen to run: by process and `vcpu_id`, the threads that made
    /// them.
    made: HashMap<(u32, u32), Vec<u32>>,
    /// Where the threads are that are at a fault.
    at_fault: Vec<usize>,
    /// What the user says of the guests, and of the log: it has the events of all threads.
    given: Option<Fact<u8>>,
    is_of_all: bool,
    /// Why the changes of entries do not tell everything, if they do not.
    torn: Option<String>,
    /// That was said.
    torn_is_told: bool,
    /// There are changes of entries in the log.
    tells_changes: bool,
    /// The log tells what tables below a root are made for, so that they are no roots.
    tells_links: bool,
    /// Of the roots that were taken.
    root_level: Level,
    /// Of the last `kvm_exit`.
    isa: Option<u8>,
    losses: u64,
    /// How many vCPUs were made.
    creations: u64,
    now: u64,
}

/// The level of all roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Unknown,
    All(u8),
    Mixed,
}

impl Threads {
    pub(super) fn new(said: &Said) -> Self {
        Self { given: said.maxphyaddr.clone(), is_of_all: said.is_whole, ..Self::default() }
    }

    /// When the last record was made.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Something may be missing: what was half told is let go.
    pub(super) fn lost(&mut self) {
        self.tear(|| "something of the log is lost".to_owned());
        self.made.clear();
        self.at_fault.clear();
        self.losses += 1;
    }

    /// Takes a record in, and adds what it tells.
    pub(super) fn take(&mut self, record: &Record, events: &mut Vec<Event>) {
        let Record { time_ns, tid, tgid, event } = *record;
        self.now = time_ns;
        if let Tracepoint::Lost { events: lost } = event {
            self.lost();
            // What goes on being missing is told once.
            if lost != Some(0) {
                events.push(Event { time_ns, kind: loss(lost) });
            }
            return;
        }
        if self.all.len() >= MOST && !self.places.contains_key(&tid) {
            self.all.clear();
            self.places.clear();
            self.last = None;
            self.lost();
            let reason = format!("more than {MOST} threads: those before are forgotten");
            events.push(Event { time_ns, kind: EventKind::Gap { reason } });
        }
        let at = self.place_of(tid);
        let thread = &mut self.all[at];
        thread.tgid = tgid;
        match event {
            Tracepoint::Entry { vcpu } => {
                thread.in_notifier = false;
                thread.is_mapping = false;
                self.runs(at, vcpu);
                self.tell_roots(at, events);
                let walk = self.resolved(at);
                let told = |walk| Event { time_ns, kind: EventKind::Walk(Box::new(walk)) };
                events.extend(walk.map(told));
            }
            Tracepoint::Exit { vcpu, isa } => {
                thread.in_notifier = false;
                self.isa = isa.or(self.isa);
                self.runs(at, vcpu);
            }
            Tracepoint::PageFault { vcpu, gpa, error_code } => {
                thread.in_notifier = false;
                let fault = FaultTold { gpa, error_code, requested: None, is_raced: false };
                thread.fault = (!thread.in_l2).then_some(fault);
                self.runs(at, vcpu);
            }
            Tracepoint::SpteRequested { gfn, pfn, level } => {
                self.tells_links = true;
                thread.is_mapping = true;
                self.requested(at, gfn, pfn, level);
            }
            Tracepoint::GetPage { gfn, role, .. } => thread.page(time_ns, gfn, role),
            Tracepoint::SpteChanged { as_id, gfn, level, old, new } => {
                self.changed(at, time_ns, (as_id, gfn, level), (old, new), events);
            }
            // The TDP MMU tells both, and the other one in full.
            Tracepoint::SetSpte { .. } if self.tells_changes => {}
            Tracepoint::SetSpte { gfn, level, spte, place } => {
                let kind = EventKind::SpteChange(SpteChange {
                    observed_by: "kvm_mmu_set_spte".into(),
                    gfn,
                    level,
                    new: spte,
                    place: Some(place),
                    ..SpteChange::default()
                });
                events.push(Event { time_ns, kind });
            }
            Tracepoint::UnmapHva => thread.in_notifier = true,
            Tracepoint::Cpuid { function: 0x80000008, eax } if !thread.in_l2 => {
                let guest = (thread.vcpu.unwrap_or_default(), self.creations);
                thread.told = Some((guest, (eax & 0xff) as u8));
                thread.tell_told(self.tells_links, events);
            }
            Tracepoint::WriteTscOffset { vcpu, previous: 0 } if self.made.len() < MOST => {
                // Of one vCPU it may be told twice; and it is another than one before it.
                self.creations += 1;
                thread.has_run.retain(|run| *run != vcpu);
                let makers = self.made.entry((tgid, vcpu)).or_default();
                if !makers.contains(&tid) && makers.len() < MOST_OF_A_THREAD {
                    makers.push(tid);
                }
            }
            Tracepoint::NestedEnter { .. } => thread.in_l2 = true,
            Tracepoint::NestedExit => thread.in_l2 = false,
            Tracepoint::Cpuid { .. }
            | Tracepoint::WriteTscOffset { .. }
            | Tracepoint::PrepareZap { .. }
            | Tracepoint::MarkMmio { .. }
            | Tracepoint::ZapAllFast
            | Tracepoint::Lost { .. } => {}
        }
    }

    /// The end: what waits for more is told as it is.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        for at in 0..self.all.len() {
            self.tell_roots(at, events);
            let thread = &mut self.all[at];
            thread.tell_told(self.tells_links, events);
            thread.tell_all(self.given.as_ref(), self.tells_links, events);
        }
        let untold: usize = self.all.iter().map(|thread| thread.untold.len()).sum();
        if untold > 0 {
            let not_seen = vec![format!(
                "what {untold} pages of level 4 are: roots, or tables below one (the log has neither \
                 kvm_mmu_spte_requested nor kvm_tdp_mmu_spte_changed)"
            )];
            let kind = EventKind::Hooks { hooks: Vec::new(), not_seen };
            events.push(Event { time_ns: self.now, kind });
        }
    }

    /// Where a thread is, which may be a new one.
    fn place_of(&mut self, tid: u32) -> usize {
        let at = match self.last.filter(|last| self.all[*last].tid == tid) {
            Some(last) => last,
            None => *self.places.entry(tid).or_insert_with(|| {
                self.all.push(Thread { tid, losses: self.losses, ..Thread::default() });
                self.all.len() - 1
            }),
        };
        self.last = Some(at);
        let thread = &mut self.all[at];
        if thread.losses != self.losses {
            thread.losses = self.losses;
            thread.fault = None;
            thread.roots.clear();
            thread.in_notifier = false;
        }
        at
    }

    /// A thread runs a vCPU.
    fn runs(&mut self, at: usize, vcpu: Option<u32>) {
        let thread = &mut self.all[at];
        let Some(vcpu) = vcpu else { return };
        thread.vcpu = Some(vcpu);
        if thread.has_run.contains(&vcpu) {
            return;
        }
        if thread.has_run.len() >= MOST_OF_A_THREAD {
            thread.has_run.clear();
        }
        thread.has_run.push(vcpu);
        let tid = thread.tid;
        let mut makers = self.made.get_mut(&(thread.tgid, vcpu));
        // Itself, if it made one.
        let maker = makers.as_ref().and_then(|makers| {
            makers.iter().position(|maker| *maker == tid).or(makers.len().checked_sub(1))
        });
        if let (Some(makers), Some(maker)) = (&mut makers, maker) {
            makers.swap_remove(maker);
        } else {
            self.tear(|| {
                format!(
                    "thread {tid} runs vCPU {vcpu}, and the log does not tell that it was made \
                     (kvm_write_tsc_offset): its VM was there before"
                )
            });
        }
    }

    /// From here on it is not known what the entries are.
    pub(super) fn tear(&mut self, why: impl FnOnce() -> String) {
        self.torn.get_or_insert_with(why);
    }

    fn requested(&mut self, at: usize, gfn: u64, pfn: u64, level: u8) {
        // Of L2 it is a frame of L1, and the entries are told otherwise.
        let fault = self.all[at].fault.as_mut().filter(|fault| fault.gpa >> 12 == gfn);
        let Some(fault) = fault else { return };
        fault.requested = Some(Requested { gfn, pfn, level });
        if self.at_fault.contains(&at) {
            return;
        }
        if self.at_fault.len() < MOST_AT_FAULT {
            self.at_fault.push(at);
        } else {
            // What others do to it will not be seen.
            fault.is_raced = true;
        }
    }

    /// The roots that a thread has taken, for the vCPU that it runs.
    fn tell_roots(&mut self, at: usize, events: &mut Vec<Event>) {
        if self.all[at].roots.is_empty() {
            return;
        }
        let vm = self.vm_of(at);
        let thread = &mut self.all[at];
        let roots = std::mem::take(&mut thread.roots);
        let (pid, vcpu) = (thread.tid, thread.vcpu.unwrap_or_default());
        for (time_ns, gfn, role) in roots {
            let (word, text) = match role {
                PageRole::Word(word) => (Some(word), None),
                PageRole::Told(told) => (None, Some(told)),
            };
            self.note_root(at, role);
            let root = Root { vm, pid, vcpu, gfn, role: word, told: text, ..Root::default() };
            let guest = (vcpu, self.creations);
            self.all[at].untold.push(Untold { time_ns, guest, root });
        }
        let thread = &mut self.all[at];
        thread.tell_told(self.tells_links, events);
        if thread.untold.len() > MOST_OF_A_THREAD {
            // It waits in vain.
            thread.tell_all(self.given.as_ref(), self.tells_links, events);
            thread.untold.truncate(MOST_OF_A_THREAD);
        }
    }

    fn note_root(&mut self, at: usize, role: PageRole) {
        let thread = &mut self.all[at];
        if matches!(role, PageRole::Word(word) if word & GUEST_MODE != 0) {
            return;
        }
        let level = role.level();
        thread.root_level = Some(level);
        thread.ad_disabled = match role {
            PageRole::Word(word) => Some(word & AD_DISABLED != 0),
            PageRole::Told(_) => None,
        };
        self.root_level = match self.root_level {
            Level::Unknown => Level::All(level),
            Level::All(all) if all == level => Level::All(level),
            _ => Level::Mixed,
        };
    }

    fn changed(
        &mut self,
        at: usize,
        time_ns: u64,
        (as_id, gfn, level): (u8, u64, u8),
        (old, new): (u64, u64),
        events: &mut Vec<Event>,
    ) {
        if is_without_bit(old, level) || is_without_bit(new, level) {
            self.tear(|| "the entries are of a kernel before 5.13".to_owned());
        }
        self.tells_changes = true;
        self.tells_links = true;
        // A table of 4 levels that is linked is no root.
        if level == 5 {
            self.all[at].roots.retain(|(_, _, role)| role.level() != 4);
        }
        if let Some(why) = self.torn.as_ref().filter(|_| !self.torn_is_told) {
            let not_seen = vec![format!("the history of entries: {why}")];
            events.push(Event { time_ns, kind: EventKind::Hooks { hooks: Vec::new(), not_seen } });
            self.torn_is_told = true;
        }
        let frames = 1_u64 << (9 * u32::from(level.clamp(1, 6) - 1));
        for other in self.at_fault.iter().filter(|other| **other != at) {
            if let Some(fault) = &mut self.all[*other].fault
                && fault.gpa >> 12 & !(frames - 1) == gfn & !(frames - 1)
            {
                fault.is_raced = true;
            }
        }
        let thread = &self.all[at];
        // Who runs a vCPU changes the entries of its own VM.
        let is_own = self.is_of_all && !thread.has_run.is_empty() && !thread.in_notifier;
        let kind = EventKind::SpteChange(SpteChange {
            observed_by: "kvm_tdp_mmu_spte_changed".into(),
            vm: None,
            from_start: self.torn.is_none(),
            in_log: Some(if is_own { InLog::Judged } else { InLog::Followed }),
            as_id: Some(as_id),
            gfn,
            level,
            old: Some(old),
            new,
            place: None,
        });
        events.push(Event { time_ns, kind });
    }

    /// A thread goes on after a fault: the walk of it, if it was resolved. Its entries are looked up
    /// where changes are followed.
    fn resolved(&mut self, at: usize) -> Option<Walk> {
        let fault = self.all[at].fault.take()?;
        fault.requested?;
        self.at_fault.retain(|other| *other != at);
        if self.torn.is_some() || !self.tells_changes {
            return None;
        }
        let vm = self.vm_of(at);
        let thread = &self.all[at];
        let all = match self.root_level {
            Level::All(level) => Some(level),
            Level::Unknown | Level::Mixed => None,
        };
        let races = if fault.is_raced { vec![Race::Entries] } else { Vec::new() };
        Some(Walk {
            observed_by: IN_A_LOG.into(),
            vm,
            pid: thread.tid,
            vcpu: thread.vcpu?,
            gpa: fault.gpa,
            error_code: if self.isa == Some(VMX) {
                of_vmx(fault.error_code)
            } else {
                fault.error_code
            },
            result: 1,
            requested: fault.requested,
            root_level: Some(thread.root_level.or(all)?),
            ad_disabled: thread.ad_disabled,
            races,
            ..Walk::default()
        })
    }

    /// The number of the VM that a thread is of: 0 where processes are not told.
    fn vm_of(&mut self, at: usize) -> u32 {
        let next = u32::try_from(self.vms.len()).unwrap_or(u32::MAX - 1) + 1;
        match self.all[at].tgid {
            0 => 0,
            tgid if self.vms.len() >= MOST => self.vms.get(&tgid).copied().unwrap_or(0),
            tgid => *self.vms.entry(tgid).or_insert(next),
        }
    }
}

/// The exit qualification of an EPT violation as `PFERR_WRITE` and `PFERR_FETCH`.
fn of_vmx(qualification: u64) -> u64 {
    let bit = |bit: u32| qualification >> bit & 1;
    bit(1) << 1 | bit(2) << 4
}

/// Whether an entry leads to a table, and has no bit for present: before 5.13.
fn is_without_bit(entry: u64, level: u8) -> bool {
    const RIGHTS: u64 = 7;
    const PAGE_SIZE: u64 = 1 << 7;
    level > 1 && entry & RIGHTS == RIGHTS && entry & (PAGE_SIZE | MMU_PRESENT) == 0
}

fn loss(events: Option<u64>) -> EventKind {
    match events {
        Some(records) => EventKind::Loss { hook: "the log".to_owned(), records },
        None => EventKind::Gap {
            reason: "events were lost here; the log does not say how many".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
