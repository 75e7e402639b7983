//! JSON lines: one object a line, each with its `type`. Described in `docs/json.md`.

mod root;
mod scenario;
pub mod schema;
mod spte_change;
mod walk;

use std::collections::BTreeMap;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use self::root::{LoadLine, ShadowLine};
use self::scenario::{CaseLine, ScenarioLine};
use self::spte_change::SpteChangeLine;
use self::walk::WalkLine;
use super::Sink;
use crate::analysis::{Judged, Summary};
use crate::model::{
    ConfigureMmu, CpuidLeaves, EventKind, Evidence, FaultLoop, HookStatus, Inputs, KernelFacts,
    Mode, PageFaultHandler, Run, ScenarioResult, Verdict,
};

/// Writes JSON lines.
pub struct Json<W> {
    out: W,
    quiet: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Run {
        #[serde(flatten)]
        run: &'a Run,
    },
    Scenario(ScenarioLine<'a>),
    Case(CaseLine<'a>),
    Hook {
        #[serde(flatten)]
        status: &'a HookStatus,
    },
    NotSeen {
        what: &'a str,
    },
    Setup {
        time_ns: u64,
        what: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        function: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        facts: Option<&'a KernelFacts>,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a ConfigureMmu>,
        verdict: Verdict,
        rules: Rules<'a>,
    },
    Decision(Box<DecisionLine<'a>>),
    Root {
        time_ns: u64,
        vm: u32,
        pid: u32,
        vcpu: u32,
        gfn: u64,
        level: u8,
        root_level: Option<u8>,
        verdict: Verdict,
        rules: Rules<'a>,
    },
    /// On VMX.
    Eptp(Box<LoadLine<'a>>),
    /// On SVM.
    Ncr3(Box<LoadLine<'a>>),
    ShadowMmu(Box<ShadowLine<'a>>),
    FaultLoop(Box<FaultLoopLine<'a>>),
    Walk(Box<WalkLine<'a>>),
    SpteChange(Box<SpteChangeLine<'a>>),
    VmcsDump(Box<VmcsDumpLine<'a>>),
    Complaint {
        time_ns: u64,
        by: &'a str,
        text: &'a str,
    },
    VmGone {
        time_ns: u64,
        vm: u32,
    },
    Finding {
        time_ns: u64,
        rule: &'a str,
        verdict: Verdict,
        message: &'a str,
        evidence: &'a [Evidence],
        #[serde(skip_serializing_if = "Option::is_none")]
        scenario: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        known: Option<&'a str>,
    },
    Loss {
        time_ns: u64,
        hook: &'a str,
        records: u64,
    },
    Gap {
        time_ns: u64,
        reason: &'a str,
    },
    Summary {
        #[serde(flatten)]
        summary: &'a Summary,
    },
}

#[derive(Serialize, JsonSchema)]
struct DecisionLine<'a> {
    time_ns: u64,
    vm: u32,
    pid: u32,
    vcpu: u32,
    maxphyaddr: Option<u32>,
    mode: Option<Mode>,
    root_level: Option<u8>,
    expected_level: Option<u8>,
    verdict: Verdict,
    rules: Rules<'a>,
    observed_by: &'a str,
    cpuid: Option<&'a CpuidLeaves>,
    direct: Option<bool>,
    page_fault: Option<PageFaultHandler>,
    role_before: Option<String>,
    role: String,
    inputs: &'a Inputs,
}

#[derive(Serialize, JsonSchema)]
struct FaultLoopLine<'a> {
    time_ns: u64,
    vm: u32,
    pid: u32,
    vcpu: u32,
    gpa: String,
    error_code: String,
    answer: u32,
    count: u32,
    for_ns: u64,
    root_level: Option<u8>,
    verdict: Verdict,
    rules: Rules<'a>,
}

#[derive(Serialize, JsonSchema)]
struct VmcsDumpLine<'a> {
    time_ns: u64,
    vmcs: Option<String>,
    eptp: Option<String>,
    exit_reason: Option<String>,
    exit_qualification: Option<String>,
    gpa: Option<String>,
    verdict: Verdict,
    rules: Rules<'a>,
}

type Rules<'a> = BTreeMap<&'a str, Verdict>;

impl<'a> FaultLoopLine<'a> {
    fn new(faults: &FaultLoop, time_ns: u64, verdict: Verdict, rules: Rules<'a>) -> Self {
        Self {
            time_ns,
            vm: faults.vm,
            pid: faults.pid,
            vcpu: faults.vcpu,
            gpa: hex(faults.gpa),
            error_code: hex(faults.error_code),
            answer: faults.answer,
            count: faults.count,
            for_ns: faults.for_ns,
            root_level: faults.mmu_level,
            verdict,
            rules,
        }
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

impl<W: Write> Json<W> {
    /// Writes to `out`; `quiet` leaves out all that is ok.
    pub fn new(out: W, quiet: bool) -> Self {
        Self { out, quiet }
    }

    fn hooks(&mut self, hooks: &[HookStatus], not_seen: &[String]) -> io::Result<()> {
        for status in hooks {
            self.line(&Line::Hook { status })?;
        }
        for what in not_seen {
            self.line(&Line::NotSeen { what })?;
        }
        Ok(())
    }

    /// What is not ok of an observation.
    fn findings(&mut self, judged: &Judged) -> io::Result<()> {
        for judgement in judged.judgements.iter().filter(|found| found.verdict != Verdict::Ok) {
            self.line(&Line::Finding {
                time_ns: judged.event.time_ns,
                rule: judgement.rule,
                verdict: judgement.verdict,
                message: &judgement.message,
                evidence: &judgement.evidence,
                scenario: judged.scenario,
                known: judgement.known.as_deref(),
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn run(&mut self, run: &Run) -> io::Result<()> {
        self.line(&Line::Run { run })
    }

    fn scenario(&mut self, result: &ScenarioResult) -> io::Result<()> {
        for case in &result.cases {
            self.line(&Line::Case(CaseLine::new(result, case)))?;
        }
        self.line(&Line::Scenario(ScenarioLine::new(result)))
    }

    fn event(&mut self, judged: &Judged) -> io::Result<()> {
        let time_ns = judged.event.time_ns;
        let verdict = judged.verdict();
        let is_told = matches!(judged.event.kind, EventKind::Loss { .. } | EventKind::Gap { .. });
        if self.quiet && verdict == Verdict::Ok && !is_told {
            return Ok(());
        }
        let rules: BTreeMap<_, _> =
            judged.judgements.iter().map(|judgement| (judgement.rule, judgement.verdict)).collect();
        let setup = |what, function, facts, arguments| Line::Setup {
            time_ns,
            what,
            function,
            facts,
            arguments,
            verdict,
            rules: rules.clone(),
        };
        let line = match &judged.event.kind {
            EventKind::Hooks { hooks, not_seen } => return self.hooks(hooks, not_seen),
            // The summary says as much.
            EventKind::End => return self.findings(judged),
            EventKind::Facts(facts) => setup("facts", None, Some(&**facts), None),
            EventKind::ConfigureMmu(args) => setup("kvm_configure_mmu", None, None, Some(args)),
            EventKind::HardwareSetup { function } => {
                setup("hardware_setup", Some(function), None, None)
            }
            EventKind::Decision(decision) => Line::Decision(Box::new(DecisionLine {
                time_ns,
                vm: decision.vm,
                pid: decision.pid,
                vcpu: decision.vcpu,
                maxphyaddr: decision.maxphyaddr,
                mode: judged.mode,
                root_level: decision.after.root_level,
                expected_level: judged.expected_level,
                verdict,
                rules: rules.clone(),
                observed_by: &decision.observed_by,
                cpuid: decision.cpuid.as_ref(),
                direct: decision.after.direct,
                page_fault: decision.after.page_fault,
                role_before: decision.before.map(|before| hex(before.role)),
                role: hex(decision.after.role),
                inputs: &decision.inputs,
            })),
            EventKind::Root(root) => Line::Root {
                time_ns,
                vm: root.vm,
                pid: root.pid,
                vcpu: root.vcpu,
                gfn: root.gfn,
                level: root.level(),
                root_level: root.root_level,
                verdict,
                rules,
            },
            EventKind::Load(load) => {
                let line = Box::new(LoadLine::new(load, time_ns, verdict, rules));
                if load.eptp.is_some() { Line::Eptp(line) } else { Line::Ncr3(line) }
            }
            EventKind::ShadowMmu(mmu) => {
                Line::ShadowMmu(Box::new(ShadowLine::new(mmu, time_ns, verdict, rules)))
            }
            EventKind::FaultLoop(faults) => {
                Line::FaultLoop(Box::new(FaultLoopLine::new(faults, time_ns, verdict, rules)))
            }
            EventKind::Walk(walk) => {
                let end = judged.walk_end.as_ref();
                Line::Walk(Box::new(WalkLine::new(walk, end, time_ns, verdict, rules)))
            }
            EventKind::SpteChange(change) => {
                Line::SpteChange(Box::new(SpteChangeLine::new(change, time_ns, verdict, rules)))
            }
            EventKind::VmcsDump(dump) => Line::VmcsDump(Box::new(VmcsDumpLine {
                time_ns,
                vmcs: dump.vmcs.map(hex),
                eptp: dump.eptp.map(hex),
                exit_reason: dump.exit_reason.map(u64::from).map(hex),
                exit_qualification: dump.exit_qualification.map(hex),
                gpa: dump.gpa.map(hex),
                verdict,
                rules,
            })),
            EventKind::Complaint { by, text } => Line::Complaint { time_ns, by, text },
            EventKind::VmGone { vm } => Line::VmGone { time_ns, vm: *vm },
            EventKind::Loss { hook, records } => Line::Loss { time_ns, hook, records: *records },
            EventKind::Gap { reason } => Line::Gap { time_ns, reason },
        };
        self.line(&line)?;
        self.findings(judged)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.line(&Line::Summary { summary })?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
