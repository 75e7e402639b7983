//! JSON lines: one object a line, each with its `type`. Described in `docs/json.md`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::Sink;
use crate::analysis::{Judged, Summary};
use crate::model::{
    ConfigureMmu, CpuidLeaves, EventKind, Evidence, HookStatus, Inputs, KernelFacts, Mode, Verdict,
};

/// Writes JSON lines.
pub struct Json<W> {
    out: W,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
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
        rules: BTreeMap<&'a str, Verdict>,
    },
    Decision(Box<DecisionLine<'a>>),
    Root {
        time_ns: u64,
        vm: u32,
        pid: u32,
        vcpu: u32,
        gfn: u64,
        level: u8,
        root_level: u8,
        verdict: Verdict,
    },
    Finding {
        time_ns: u64,
        rule: &'a str,
        verdict: Verdict,
        message: &'a str,
        evidence: &'a [Evidence],
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

#[derive(Serialize)]
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
    rules: BTreeMap<&'a str, Verdict>,
    observed_by: &'a str,
    cpuid: Option<&'a CpuidLeaves>,
    direct: Option<bool>,
    role_before: Option<String>,
    role: String,
    inputs: &'a Inputs,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn hooks(&mut self, hooks: &[HookStatus], not_seen: &[String]) -> io::Result<()> {
        for status in hooks {
            self.line(&Line::Hook { status })?;
        }
        for what in not_seen {
            self.line(&Line::NotSeen { what })?;
        }
        self.out.flush()
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Sink for Json<W> {
    fn event(&mut self, judged: &Judged) -> io::Result<()> {
        let time_ns = judged.event.time_ns;
        let verdict = judged.verdict();
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
            EventKind::End => return Ok(()),
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
                role_before: decision.before.map(|before| format!("{:#x}", before.role)),
                role: format!("{:#x}", decision.after.role),
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
            },
            EventKind::Loss { hook, records } => Line::Loss { time_ns, hook, records: *records },
            EventKind::Gap { reason } => Line::Gap { time_ns, reason },
        };
        self.line(&line)?;
        for judgement in judged.judgements.iter().filter(|found| found.verdict != Verdict::Ok) {
            self.line(&Line::Finding {
                time_ns,
                rule: judgement.rule,
                verdict: judgement.verdict,
                message: &judgement.message,
                evidence: &judgement.evidence,
            })?;
        }
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.line(&Line::Summary { summary })?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
