//! Root levels over time: what changed for each vCPU, and where something was found.

use std::collections::BTreeMap;

use crate::analysis::Judged;
use crate::model::{EventKind, Mode, Verdict};

/// The vCPUs, with what changed for each.
#[derive(Debug, Default)]
pub(in crate::report) struct Timeline {
    /// By source, VM, thread where the VM is not known, and vCPU.
    lanes: BTreeMap<(usize, u32, u32, Option<u32>), Lane>,
    /// Observations of vCPUs that have no place.
    pub left_out: u64,
}

/// What is known of a vCPU; or of a VM, where it is not known of which vCPU something is.
#[derive(Debug)]
pub(in crate::report) struct Lane {
    /// Number of the VM; 0 if it is not known.
    pub vm: u32,
    /// The thread that created the VM, or the vCPU's own in a log; 0 if it is not known.
    pub pid: u32,
    /// `vcpu_id`.
    pub vcpu: Option<u32>,
    /// Time of the first change or finding, in nanoseconds.
    pub first_ns: u64,
    /// Time of the last observation of it, in nanoseconds.
    pub last_ns: u64,
    /// When its VM went.
    pub gone_ns: Option<u64>,
    /// Decisions.
    pub decisions: u64,
    /// The first changes.
    pub steps: Vec<Step>,
    /// Changes that are not there.
    pub more_steps: u64,
    /// The first findings.
    pub marks: Vec<Mark>,
    /// The last change of each sort.
    last: [Option<Change>; 5],
}

/// A change, and when.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct Step {
    pub time_ns: u64,
    pub change: Change,
}

/// What is another than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Change {
    /// A decision came out otherwise.
    Decided { mode: Option<Mode>, maxphyaddr: Option<u32>, level: Option<u8>, expected: Option<u8> },
    /// A page of this level became a root.
    Page { level: u8 },
    /// Another root was handed to the hardware.
    Handed {
        /// Value of EPT_POINTER, or of nCR3.
        value: u64,
        is_eptp: bool,
        level: u8,
        /// It is for L2.
        nested: bool,
    },
    /// The MMU for L2 was set up for other tables of L1.
    Shadowed {
        /// Its root level.
        level: Option<u8>,
        /// The level that L1's tables are walked from.
        walk_level: Option<u8>,
    },
}

/// Something that is not ok.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct Mark {
    pub time_ns: u64,
    pub rule: &'static str,
    pub verdict: Verdict,
}

impl Change {
    fn of(judged: &Judged) -> Option<Self> {
        match &judged.event.kind {
            EventKind::Decision(decision) => Some(Self::Decided {
                mode: judged.mode,
                maxphyaddr: decision.maxphyaddr,
                level: decision.after.root_level,
                expected: judged.expected_level,
            }),
            EventKind::Root(root) => Some(Self::Page { level: root.level() }),
            EventKind::Load(load) => Some(Self::Handed {
                value: load.eptp.unwrap_or(load.root_hpa),
                is_eptp: load.eptp.is_some(),
                level: load.level,
                nested: load.nested,
            }),
            EventKind::ShadowMmu(mmu) => {
                Some(Self::Shadowed { level: mmu.level, walk_level: mmu.walk_level })
            }
            _ => None,
        }
    }

    /// Those of one sort follow each other.
    fn sort(self) -> usize {
        match self {
            Self::Decided { .. } => 0,
            Self::Page { .. } => 1,
            Self::Handed { nested: false, .. } => 2,
            Self::Handed { nested: true, .. } => 3,
            Self::Shadowed { .. } => 4,
        }
    }
}

impl Lane {
    /// Changes that are kept.
    const MOST_STEPS: usize = 200;
    /// Findings of each verdict that are kept.
    const MOST_MARKS: usize = 30;

    fn event(&mut self, judged: &Judged, change: Option<Change>) {
        let time_ns = judged.event.time_ns;
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
        self.decisions += u64::from(judged.is_decision());
        if let Some(change) = change {
            let last = &mut self.last[change.sort()];
            if *last != Some(change) {
                *last = Some(change);
                if self.steps.len() < Self::MOST_STEPS {
                    self.steps.push(Step { time_ns, change });
                } else {
                    self.more_steps += 1;
                }
            }
        }
        for judgement in &*judged.judgements {
            let (rule, verdict) = (judgement.rule, judgement.verdict);
            if verdict == Verdict::Ok {
                continue;
            }
            let before = self.marks.iter().filter(|mark| mark.verdict == verdict).count();
            if before < Self::MOST_MARKS {
                self.marks.push(Mark { time_ns, rule, verdict });
            }
        }
    }
}

impl Timeline {
    /// vCPUs that are kept.
    const MOST_LANES: usize = 200;

    pub(super) fn event(&mut self, source: usize, judged: &Judged) {
        let kind = &judged.event.kind;
        let Some((vm, pid)) = whose(kind) else { return };
        if matches!(kind, EventKind::VmGone { .. }) {
            let of_vm = self.lanes.range_mut((source, vm, 0, None)..=(source, vm, 0, Some(!0)));
            of_vm.for_each(|(_, lane)| lane.gone_ns = Some(judged.event.time_ns));
            return;
        }
        let thread = if vm == 0 { pid } else { 0 };
        let key = (source, vm, thread, kind.vcpu());
        let change = Change::of(judged);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.event(judged, change);
            return;
        }
        if change.is_none() && judged.verdict() == Verdict::Ok {
            return;
        }
        if self.lanes.len() >= Self::MOST_LANES {
            self.left_out += 1;
            return;
        }
        let (first_ns, last_ns) = (judged.event.time_ns, judged.event.time_ns);
        let mut lane = Lane {
            vm,
            pid,
            vcpu: kind.vcpu(),
            first_ns,
            last_ns,
            gone_ns: None,
            decisions: 0,
            steps: vec![],
            more_steps: 0,
            marks: vec![],
            last: [None; 5],
        };
        lane.event(judged, change);
        self.lanes.insert(key, lane);
    }

    /// The vCPUs of a source, by VM.
    pub(in crate::report) fn of(&self, source: usize) -> impl Iterator<Item = &Lane> {
        let of_source = self.lanes.range((source, 0, 0, None)..(source + 1, 0, 0, None));
        of_source.map(|(_, lane)| lane)
    }
}

/// The VM and the process that an observation is of; 0 for what a log does not tell.
fn whose(kind: &EventKind) -> Option<(u32, u32)> {
    match kind {
        EventKind::Decision(decision) => Some((decision.vm, decision.pid)),
        EventKind::Root(root) => Some((root.vm, root.pid)),
        EventKind::Load(load) => Some((load.vm, load.pid)),
        EventKind::ShadowMmu(mmu) => Some((mmu.vm, mmu.pid)),
        EventKind::FaultLoop(faults) => Some((faults.vm, faults.pid)),
        EventKind::Walk(walk) => Some((walk.vm, walk.pid)),
        EventKind::SpteChange(change) => Some((change.vm.unwrap_or_default(), 0)),
        EventKind::VmGone { vm } => Some((*vm, 0)),
        _ => None,
    }
}
