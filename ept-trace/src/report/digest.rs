//! What all reports are written from: of a stream of any length, as much as can be shown.

mod complaints;
mod findings;
mod machine;
mod tally;
mod timeline;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ptr;

pub(super) use self::complaints::Complaints;
pub(super) use self::findings::{Example, Findings, Group, Piece};
pub(super) use self::machine::{Hooks, Machine};
use self::tally::Tally;
pub(super) use self::timeline::{Change, Lane, Mark, Step, Timeline};

use super::plain::Plain;
use super::words::{count, seconds};
use crate::analysis::Judged;
use crate::model::{
    Case, CaseOutcome, Event, EventKind, Judgement, Run, ScenarioResult, Vendor, Verdict,
};
use crate::oracle::{Absent, End};
use crate::source::Skipped;

/// What was seen and judged. Memory is bounded: what has no place is counted.
#[derive(Debug, Default)]
pub(super) struct Digest {
    /// The files, in their order; one without a name if what came was from none.
    pub sources: Vec<Source>,
    /// What is not ok.
    pub findings: Findings,
    /// What the kernel and others have complained of by themselves.
    pub complaints: Complaints,
    /// Root levels over time.
    pub timeline: Timeline,
    /// Walks, by where they ended: a page of this level, or in words.
    pub walks: BTreeMap<Ended, u64>,
    /// Observations, by what they are.
    pub events: Tally<u64>,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    /// At a page of this level.
    Mapped(u8),
    /// Elsewhere.
    Otherwise(&'static str),
}

/// What is of one file, or of a machine that was watched.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The name of the file, as it was given.
    pub path: Option<String>,
    /// The run of `check` that it is.
    pub run: Option<Run>,
    /// What came of the scenarios of that.
    pub scenarios: Vec<ScenarioResult>,
    /// Observations.
    pub events: u64,
    /// Time of the first and of the last, in nanoseconds.
    pub span: Option<(u64, u64)>,
    /// What each rule said of single observations.
    rules: Tally<Counts>,
    /// What the rules said of many alike, and of how many.
    shared: Vec<(&'static [Judgement], u64)>,
    /// The machine, as it was known last.
    pub machine: Option<Machine>,
    /// The hooks, as they were set last.
    pub hooks: Option<Hooks>,
    /// Losses and gaps, the first of them.
    interruptions: Vec<Interruption>,
    /// Losses and gaps that are not there.
    more_interruptions: u64,
    /// Records lost.
    pub lost: u64,
    /// Times in which nothing could be observed.
    pub gaps: u64,
    /// Places that could not be read.
    pub skipped: u64,
    /// The first of them.
    skipped_first: Vec<Plain>,
}

/// How often a rule has given each answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub ok: u64,
    pub advisory: u64,
    pub undetermined: u64,
    pub mismatch: u64,
    /// Mismatches that are known ones.
    pub known: u64,
}

/// A loss or a gap.
#[derive(Debug)]
struct Interruption {
    time_ns: u64,
    /// What is missing, in words.
    what: Plain,
}

impl Source {
    /// So many interruptions are kept.
    const MOST_INTERRUPTIONS: usize = 100;

    /// The name of the file, or what stands for it.
    pub(super) fn name(&self) -> Plain {
        let place = self.run.as_ref().map_or("this machine", |run| &run.place);
        Plain::of(self.path.as_deref().unwrap_or(place))
    }

    /// Kernel and CPU, as far as they are known.
    pub(super) fn machine(&self) -> Option<String> {
        let machine = self.machine.as_ref().map(Machine::to_string);
        let Some(Run { release, cpu, .. }) = &self.run else { return machine };
        let machine = machine.unwrap_or_else(|| format!("Linux {release}"));
        Some(format!("{machine}, on {cpu}"))
    }

    /// Whether something of it was not seen.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lost > 0 || self.gaps > 0 || self.skipped > 0
    }

    /// What was not seen, line by line.
    pub(super) fn not_seen(&self) -> Vec<String> {
        let at = |gone: &Interruption| format!("at {} s: {}", seconds(gone.time_ns), gone.what);
        let mut lines: Vec<_> = self.interruptions.iter().map(at).collect();
        if self.more_interruptions > 0 {
            lines.push(format!("and {}", count(self.more_interruptions, "more time")));
        }
        lines.extend(self.skipped_first.iter().map(|place| format!("passed over: {place}")));
        let more = self.skipped.saturating_sub(self.skipped_first.len() as u64);
        if more > 0 {
            lines.push(format!("passed over: {}", count(more, "more place")));
        }
        lines
    }

    /// What each rule said.
    pub(super) fn rules(&self) -> BTreeMap<&'static str, Counts> {
        let own = self.rules.iter().map(|(rule, counts)| (rule, *counts));
        let mut rules: BTreeMap<_, Counts> = own.collect();
        for (said, times) in &self.shared {
            for judgement in *said {
                rules.entry(judgement.rule).or_default().add(judgement, *times);
            }
        }
        rules
    }

    /// The rules said this. What they say of many alike is summed up in the end.
    fn said(&mut self, judged: &Judged) {
        match &judged.judgements {
            Cow::Borrowed(said) => {
                match self.shared.iter_mut().find(|(known, _)| ptr::eq(*known, *said)) {
                    Some((_, times)) => *times += 1,
                    None => self.shared.push((said, 1)),
                }
            }
            Cow::Owned(said) => {
                for judgement in said {
                    self.rules.of(judgement.rule).add(judgement, 1);
                }
            }
        }
    }

    fn interrupted(&mut self, time_ns: u64, what: &str) {
        if self.interruptions.len() < Self::MOST_INTERRUPTIONS {
            self.interruptions.push(Interruption { time_ns, what: Plain::of(what) });
        } else {
            self.more_interruptions += 1;
        }
    }

    fn event(&mut self, event: &Event) {
        let now = event.time_ns;
        self.events += 1;
        self.span = Some(self.span.map_or((now, now), |(a, b)| (a.min(now), b.max(now))));
        match &event.kind {
            EventKind::Facts(facts) if facts.vendor != Vendor::None || self.machine.is_none() => {
                self.machine = Some(Machine::new(facts));
            }
            EventKind::Hooks { hooks, not_seen } => self.hooks = Some(Hooks::new(hooks, not_seen)),
            EventKind::Loss { hook, records } => {
                self.lost = self.lost.saturating_add(*records);
                self.interrupted(now, &format!("{records} records of {hook} are lost"));
            }
            EventKind::Gap { reason } => {
                self.gaps += 1;
                self.interrupted(now, reason);
            }
            _ => {}
        }
    }
}

impl Counts {
    fn add(&mut self, judgement: &Judgement, times: u64) {
        let count = match judgement.verdict {
            Verdict::Ok => &mut self.ok,
            Verdict::Advisory => &mut self.advisory,
            Verdict::Undetermined => &mut self.undetermined,
            Verdict::Mismatch if judgement.known.is_some() => &mut self.known,
            Verdict::Mismatch => &mut self.mismatch,
        };
        *count += times;
    }

    /// Answers of any kind.
    pub(super) fn all(self) -> u64 {
        self.ok + self.advisory + self.undetermined + self.mismatch + self.known
    }

    /// The rule was asked, and never could answer.
    pub(super) fn is_only_undetermined(self) -> bool {
        self.undetermined > 0 && self.undetermined == self.all()
    }

    fn sum(self, other: Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            advisory: self.advisory + other.advisory,
            undetermined: self.undetermined + other.undetermined,
            mismatch: self.mismatch + other.mismatch,
            known: self.known + other.known,
        }
    }
}

impl Digest {
    /// What comes next is from this file.
    pub(super) fn source(&mut self, name: &str) {
        self.sources.push(Source { path: Some(name.to_owned()), ..Source::default() });
    }

    /// What comes next is of this run.
    pub(super) fn run(&mut self, run: &Run) {
        let plain = |text: &str| Plain::of(text).to_string();
        self.current().1.run = Some(Run {
            place: plain(&run.place),
            cpu: plain(&run.cpu),
            release: plain(&run.release),
            command: plain(&run.command),
        });
    }

    /// What came of a scenario.
    pub(super) fn scenario(&mut self, result: &ScenarioResult) {
        self.current().1.scenarios.push(plain_scenario(result));
    }

    /// What came of all scenarios.
    pub(super) fn scenarios(&self) -> impl Iterator<Item = &ScenarioResult> {
        self.sources.iter().flat_map(|source| &source.scenarios)
    }

    /// Something of the file could not be read.
    pub(super) fn skipped(&mut self, skipped: &Skipped) {
        let (_, source) = self.current();
        source.skipped = source.skipped.saturating_add(skipped.count);
        let room = Skipped::MOST_NAMED.saturating_sub(source.skipped_first.len());
        source.skipped_first.extend(skipped.first.iter().take(room).map(|at| Plain::of(at)));
    }

    /// Takes in an observation.
    pub(super) fn event(&mut self, judged: &Judged) {
        if let Some(kind) = kind(&judged.event.kind) {
            *self.events.of(kind) += 1;
        }
        let (number, _) = self.current();
        let source = &mut self.sources[number];
        source.event(&judged.event);
        source.said(judged);
        for judgement in &*judged.judgements {
            if judgement.verdict != Verdict::Ok {
                self.findings.add(number, judged, judgement);
            }
        }
        match &judged.event.kind {
            EventKind::Walk(_) => *self.walks.entry(ended(judged)).or_default() += 1,
            EventKind::Complaint { .. } | EventKind::VmcsDump(_) => {
                self.complaints.event(number, &judged.event);
            }
            _ => {}
        }
        self.timeline.event(number, judged);
    }

    /// What each rule said, of all sources.
    pub(super) fn rules(&self) -> BTreeMap<&'static str, Counts> {
        let mut rules = BTreeMap::new();
        for (rule, counts) in self.sources.iter().flat_map(Source::rules) {
            let sum: &mut Counts = rules.entry(rule).or_default();
            *sum = sum.sum(counts);
        }
        rules
    }

    /// What all of them said.
    pub(super) fn total(&self) -> Counts {
        self.rules().into_values().fold(Counts::default(), Counts::sum)
    }

    /// The source that is being read, and its number.
    fn current(&mut self) -> (usize, &mut Source) {
        if self.sources.is_empty() {
            self.sources.push(Source::default());
        }
        let last = self.sources.len() - 1;
        (last, &mut self.sources[last])
    }
}

fn plain_scenario(result: &ScenarioResult) -> ScenarioResult {
    let plain = |text: &str| Plain::of(text).to_string();
    let case = |case: &Case| Case {
        name: plain(&case.name),
        outcome: match &case.outcome {
            CaseOutcome::Passed => CaseOutcome::Passed,
            CaseOutcome::Failed(why) => CaseOutcome::Failed(plain(why)),
            CaseOutcome::Incomplete(why) => CaseOutcome::Incomplete(plain(why)),
            CaseOutcome::Skipped(why) => CaseOutcome::Skipped(plain(why)),
        },
        took: case.took,
    };
    ScenarioResult {
        name: plain(&result.name),
        cases: result.cases.iter().map(case).collect(),
        command: plain(&result.command),
        ..*result
    }
}

/// What an observation is, as its count is headed; the end is none.
fn kind(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::Hooks { .. } => "hooks set",
        EventKind::Facts(_) | EventKind::ConfigureMmu(_) | EventKind::HardwareSetup { .. } => {
            "set-up"
        }
        EventKind::Decision(_) => "decisions",
        EventKind::Root(_) => "root pages",
        EventKind::Load(_) => "roots handed to the hardware",
        EventKind::ShadowMmu(_) => "nested MMUs set up",
        EventKind::FaultLoop(_) => "faults that came back",
        EventKind::Walk(_) => "walks",
        EventKind::SpteChange(_) => "changes of entries",
        EventKind::VmcsDump(_) => "VMCSs printed",
        EventKind::Complaint { .. } => "complaints",
        EventKind::VmGone { .. } => "VMs gone",
        EventKind::Loss { .. } => "losses",
        EventKind::Gap { .. } => "gaps",
        EventKind::End => return None,
    })
}

fn ended(judged: &Judged) -> Ended {
    let Some(Ok(end)) = &judged.walk_end else { return Ended::Otherwise("not known") };
    match end {
        End::Mapped(to) => Ended::Mapped(to.level),
        End::Denied => Ended::Otherwise("the rights deny the access"),
        End::Absent(Absent::Empty) => Ended::Otherwise("not present"),
        End::Absent(_) => Ended::Otherwise("not present, and KVM is at work"),
        End::Mmio => Ended::Otherwise("MMIO"),
        End::Refused(_) => Ended::Otherwise("an entry is misconfigured"),
        End::TooWide => Ended::Otherwise("the address is too wide"),
        End::Cut => Ended::Otherwise("not read to the end"),
    }
}
