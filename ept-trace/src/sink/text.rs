//! Lines for a person: one an observation, what is wrong beneath it, the counts at the end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Sink;
use crate::analysis::{Judged, Summary};
use crate::model::{
    EventKind, HookStatus, Judgement, Load, Nested, Run, ScenarioResult, SpteChange, Vendor,
    Verdict, Walk,
};

/// Writes text.
pub struct Text<W> {
    out: W,
    colour: bool,
    quiet: bool,
    /// Undetermined verdicts and advisories told in full already: the same one is told once.
    told: BTreeSet<String>,
}

impl<W: Write> Text<W> {
    /// Writes to `out`; `quiet` leaves out all that is ok.
    pub fn new(out: W, colour: bool, quiet: bool) -> Self {
        Self { out, colour, quiet, told: BTreeSet::new() }
    }

    fn verdict(&self, verdict: Verdict) -> String {
        if !self.colour {
            return verdict.to_string();
        }
        let colour = match verdict {
            Verdict::Ok => 32,
            Verdict::Advisory | Verdict::Undetermined => 33,
            Verdict::Mismatch => 31,
        };
        format!("\x1b[{colour}m{verdict}\x1b[0m")
    }

    fn hooks(&mut self, hooks: &[HookStatus], not_seen: &[String]) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        for status in hooks.iter().filter(|status| status.attached) {
            let (hook, how) = (plain(&status.hook), plain(&status.how));
            writeln!(self.out, "attached     {hook} ({how})")?;
        }
        for what in not_seen {
            writeln!(self.out, "not seen     {}", plain(what))?;
        }
        Ok(())
    }

    /// Whether this was not told yet. A stream that has ever new reasons tells each.
    fn is_news(&mut self, reason: &str) -> bool {
        const MOST_REMEMBERED: usize = 1000;
        if self.told.contains(reason) {
            return false;
        }
        if self.told.len() < MOST_REMEMBERED {
            self.told.insert(reason.to_owned());
        }
        true
    }

    fn judgement(&mut self, judgement: &Judgement) -> io::Result<()> {
        let Judgement { rule, verdict, message, evidence, known } = judgement;
        if *verdict != Verdict::Mismatch && !self.is_news(&format!("{rule} {message}")) {
            return Ok(());
        }
        let shown = self.verdict(*verdict);
        writeln!(self.out, "    {rule} {shown}: {}", plain(message))?;
        if let Some(reason) = known {
            writeln!(self.out, "      known: {}", plain(reason))?;
        }
        for part in evidence {
            let (what, value, origin) = (&part.what, &part.value, &part.origin);
            writeln!(self.out, "      {} = {}  ({})", plain(what), plain(value), plain(origin))?;
        }
        Ok(())
    }
}

/// Text as it may come from somebody else's file, without what would steer a terminal.
fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.escape_debug().to_string())
    } else {
        Cow::Borrowed(text)
    }
}

/// A value that may not have been readable.
fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// The number of a VM, which a log may not tell.
fn number_of(vm: u32) -> String {
    or_unknown((vm != 0).then_some(vm))
}

/// An observation in a line.
pub(crate) fn describe(judged: &Judged) -> String {
    match &judged.event.kind {
        EventKind::Hooks { hooks, .. } => format!("hooks        {} known", hooks.len()),
        EventKind::End => "end".to_owned(),
        EventKind::Facts(facts) if facts.vendor == Vendor::None => {
            "set-up       no vendor module of KVM is loaded".to_owned()
        }
        EventKind::Facts(facts) => {
            let kvm = &facts.kvm;
            format!(
                "set-up       {}, decision {}: tdp_enabled {}, max_tdp_level {}, tdp_root_level {}",
                facts.vendor,
                facts.behaviour.era(),
                or_unknown(kvm.tdp_enabled.value()),
                or_unknown(kvm.max_tdp_level.value()),
                or_unknown(kvm.tdp_root_level.value()),
            )
        }
        EventKind::ConfigureMmu(args) => format!(
            "set-up       kvm_configure_mmu: enable_tdp {}, forced {}, max {}, huge page level {}",
            args.enable_tdp,
            or_unknown(args.forced_root_level),
            or_unknown(args.max_root_level),
            or_unknown(args.huge_page_level),
        ),
        EventKind::HardwareSetup { function } => {
            format!("set-up       hardware_setup seen: {function}")
        }
        EventKind::Decision(decision) => format!(
            "decision     VM {} (pid {}) vCPU {}: MAXPHYADDR {}, {}, root level {}",
            decision.vm,
            decision.pid,
            decision.vcpu,
            or_unknown(decision.maxphyaddr),
            or_unknown(judged.mode),
            or_unknown(decision.after.root_level),
        ),
        EventKind::Root(root) => format!(
            "root         VM {} (pid {}) vCPU {}: root page of level {} in use",
            number_of(root.vm),
            root.pid,
            root.vcpu,
            root.level(),
        ),
        EventKind::Load(load) => describe_load(load),
        EventKind::ShadowMmu(mmu) => {
            let shadows = match mmu.nested {
                Nested::Ept { eptp12: Some(eptp12), .. } => format!("EPTP12 {eptp12:#x}"),
                Nested::Ept { .. } => "EPT of L1".to_owned(),
                Nested::Npt { l1: Some((cr4, _)) } => format!("NPT of L1 (CR4 {cr4:#x})"),
                Nested::Npt { l1: None } => "NPT of L1".to_owned(),
            };
            format!(
                "nested       VM {} (pid {}) vCPU {}: shadows {shadows}, root level {}",
                mmu.vm,
                mmu.pid,
                mmu.vcpu,
                or_unknown(mmu.level),
            )
        }
        EventKind::FaultLoop(faults) => format!(
            "fault loop   VM {} (pid {}) vCPU {}: GPA {:#x} faulted {} times in a row",
            faults.vm, faults.pid, faults.vcpu, faults.gpa, faults.count,
        ),
        EventKind::Walk(walk) => describe_walk(walk, judged),
        EventKind::SpteChange(change) => describe_spte(change),
        EventKind::VmcsDump(dump) => {
            let hex = |value: Option<u64>| or_unknown(value.map(|value| format!("{value:#x}")));
            let (eptp, reason) = (hex(dump.eptp), hex(dump.exit_reason.map(u64::from)));
            format!("VMCS         printed by the kernel: EPTP {eptp}, exit reason {reason}")
        }
        EventKind::Complaint { by, text } => format!("COMPLAINT    {by}: {text}"),
        EventKind::VmGone { vm } => format!("gone         VM {vm}"),
        EventKind::Loss { hook, records } => {
            format!("LOSS         {records} records of {hook} are lost")
        }
        EventKind::Gap { reason } => format!("GAP          {reason}"),
    }
}

fn describe_load(load: &Load) -> String {
    let Load { vm, pid, vcpu, root_hpa, level, .. } = load;
    let (register, value) = match load.eptp {
        Some(eptp) => ("EPTP", eptp),
        None => ("nCR3", *root_hpa),
    };
    let whose = if load.nested { ", for L2" } else { "" };
    format!(
        "root         VM {vm} (pid {pid}) vCPU {vcpu}: {register} {value:#x}, level {level}{whose}"
    )
}

fn describe_walk(walk: &Walk, judged: &Judged) -> String {
    let end = match &judged.walk_end {
        Some(Ok(end)) => end.to_string(),
        Some(Err(_)) | None => "?".to_owned(),
    };
    let Walk { vm, pid, vcpu, gpa, .. } = walk;
    let whose = if walk.nested { " of L2" } else { "" };
    let by = match pid {
        0 => format!("printed by {}", walk.observed_by),
        _ => format!("VM {} (pid {pid}) vCPU {vcpu}", number_of(*vm)),
    };
    format!("walk         {by}: GPA {gpa:#x}{whose}: {end}")
}

fn describe_spte(change: &SpteChange) -> String {
    let SpteChange { gfn, level, new, .. } = change;
    let whose = change.vm.map_or_else(|| "?".to_owned(), |vm| vm.to_string());
    let old = change.old.map(|old| format!("{old:#x} to ")).unwrap_or_default();
    format!("entry        VM {whose}: gfn {gfn:#x}, level {level}: {old}{new:#x}")
}

impl<W: Write> Sink for Text<W> {
    fn run(&mut self, run: &Run) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let Run { place, cpu, release, command } = run;
        writeln!(self.out, "run          {command}")?;
        writeln!(self.out, "on           {}, Linux {}, {}", plain(place), release, plain(cpu))
    }

    fn scenario(&mut self, result: &ScenarioResult) -> io::Result<()> {
        writeln!(self.out, "{result}")
    }

    fn event(&mut self, judged: &Judged) -> io::Result<()> {
        if let EventKind::Hooks { hooks, not_seen } = &judged.event.kind {
            return self.hooks(hooks, not_seen);
        }
        let is_told = matches!(judged.event.kind, EventKind::Loss { .. } | EventKind::Gap { .. });
        let verdict = judged.verdict();
        // Of the end and of the many changes only what is wrong is worth a line.
        let is_silent = matches!(judged.event.kind, EventKind::End | EventKind::SpteChange(_));
        if (self.quiet || is_silent) && verdict == Verdict::Ok && !is_told {
            return Ok(());
        }
        let seconds = judged.event.time_ns / 1_000_000_000;
        let micros = judged.event.time_ns / 1_000 % 1_000_000;
        write!(self.out, "{seconds:>7}.{micros:06}  {}", plain(&describe(judged)))?;
        if !is_told && !judged.judgements.is_empty() {
            write!(self.out, "  {}", self.verdict(verdict))?;
        }
        writeln!(self.out)?;
        for judgement in &*judged.judgements {
            if judgement.verdict != Verdict::Ok {
                self.judgement(judgement)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let changes = match summary.spte_changes {
            0 => String::new(),
            changes => format!(", {changes} changes of entries"),
        };
        writeln!(
            self.out,
            "{} decisions, {} walks{changes}: {} mismatches, {} undetermined, {} advisories; {} records lost, {} gaps",
            summary.decisions,
            summary.walks,
            summary.mismatches,
            summary.undetermined,
            summary.advisories,
            summary.lost,
            summary.gaps,
        )?;
        if summary.known > 0 {
            writeln!(self.out, "known        {} mismatches", summary.known)?;
        }
        for stale in &summary.stale {
            writeln!(self.out, "not found    known finding, {}", plain(stale))?;
        }
        for (why, count) in &summary.not_judged {
            writeln!(self.out, "not judged   {count} walks: {}", plain(why))?;
        }
        if !summary.hooks.is_empty() && !self.quiet {
            writeln!(
                self.out,
                "{:<31} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "hook", "fired", "delivered", "filtered", "dropped", "missed"
            )?;
            for hook in &summary.hooks {
                writeln!(
                    self.out,
                    "{:<31} {:>9} {:>9} {:>9} {:>9} {:>9}",
                    hook.hook, hook.fired, hook.delivered, hook.filtered, hook.dropped, hook.missed
                )?;
            }
        }
        self.out.flush()
    }
}

#[cfg(test)]
pub(super) mod tests;
