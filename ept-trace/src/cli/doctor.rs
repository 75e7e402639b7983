//! `doctor`: the facts and the plan, the very ones that `watch` uses.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use super::Exit;
use super::output::print;
use crate::kernel::{AttachPlan, Filter, Host, Scope, Tracefs};
use crate::live::{CannotRun, OBJECT, preflight, program_sizes};
use crate::model::{EventKind, HookStatus, KernelFacts};

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// One JSON object
    #[arg(short)]
    json: bool,
    /// Plan with tracepoints alone
    #[arg(long)]
    tracepoints: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    facts: &'a KernelFacts,
    hooks: &'a [HookStatus],
    not_seen: &'a [String],
}

/// Prints facts and plan.
pub(super) fn run(args: &Args) -> Result<Exit> {
    // A machine that cannot be watched is worth a diagnosis all the more.
    let obstacle = preflight();
    let host = Host::read().map_err(|err| anyhow!(CannotRun(format!("{err:#}"))))?;
    let tracefs = match obstacle {
        Ok(()) => Tracefs::open().map_err(|err| anyhow!(CannotRun(format!("{err:#}")))),
        Err(why) => Err(anyhow!(why)),
    };
    let plan = tracefs.as_ref().ok().map(|tracefs| {
        let kprobes = !args.tracepoints;
        host.plan(tracefs, Scope { kprobes, walks: true, frames: false, history: false })
    });
    let (hooks, not_seen) = match plan.as_ref().map(AttachPlan::event) {
        Some(EventKind::Hooks { hooks, not_seen }) => (hooks, not_seen),
        _ => Default::default(),
    };
    if args.json {
        let report = Report { facts: &host.facts, hooks: &hooks, not_seen: &not_seen };
        print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        print(&describe(&host.facts, &hooks, &not_seen))?;
    }
    tracefs?;
    if let Some(Err(why)) = plan.map(|plan| plan.sees_decisions()) {
        return Err(anyhow!(CannotRun(format!("no decision can be seen here: {why}"))));
    }
    Ok(Exit::Clean)
}

/// Prints what the verifier of this kernel makes of every program, or writes the object.
pub(super) fn programs(write: Option<&Path>) -> Result<Exit> {
    if let Some(path) = write {
        fs::write(path, OBJECT).with_context(|| path.display().to_string())?;
        return Ok(Exit::Clean);
    }
    preflight()?;
    let all = Filter { one_walk_in: 1, history: true, ..Filter::default() };
    let config = Host::read()?.config(&Tracefs::open()?, all);
    for size in program_sizes(&config)? {
        print(&(serde_json::to_string(&size)? + "\n"))?;
    }
    Ok(Exit::Clean)
}

fn describe(facts: &KernelFacts, hooks: &[HookStatus], not_seen: &[String]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<22}{value}");
    };
    line("kernel", facts.release.clone());
    line("vendor module", facts.vendor.to_string());
    line("decision", facts.behaviour.era().to_owned());
    let hex = |fact: &crate::model::Fact<u64>| match fact.value() {
        Some(value) => format!("{value:#x} ({})", fact.origin()),
        None => fact.to_string(),
    };
    line("MSR 0x48c", hex(&facts.hardware.ept_vpid_cap));
    line("EPT offered", facts.hardware.offers_ept.to_string());
    line("host LA57", facts.hardware.host_la57.to_string());
    line("host MAXPHYADDR", facts.hardware.maxphyaddr.to_string());
    line("tdp_enabled", facts.kvm.tdp_enabled.to_string());
    line("max_tdp_level", facts.kvm.max_tdp_level.to_string());
    line("tdp_root_level", facts.kvm.tdp_root_level.to_string());
    line("enable_ept", facts.kvm.enable_ept.to_string());
    line("vmx_capability.ept", hex(&facts.kvm.vmx_capability_ept.map(u64::from)));
    line("npt_enabled", facts.kvm.npt_enabled.to_string());
    line("enable_ept_ad_bits", facts.kvm.enable_ept_ad_bits.to_string());
    line("shown to L1", hex(&facts.kvm.nested_ept_vpid_cap));
    line("smaller MAXPHYADDR", facts.kvm.allow_smaller_maxphyaddr.to_string());
    for (cpu, value) in &facts.hardware.differing_ept_vpid_cap {
        line(&format!("MSR 0x48c of CPU {cpu}"), format!("{value:#x}"));
    }
    text.push_str("\nplan of attachment\n");
    for hook in hooks {
        let mark = if hook.attached { "+" } else { "-" };
        let _ = writeln!(text, "  {mark} {:<32}{}", hook.hook, hook.how);
    }
    for what in not_seen {
        let _ = writeln!(text, "  not seen: {what}");
    }
    text
}
