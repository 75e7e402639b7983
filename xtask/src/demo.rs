//! `cargo xtask demo`: the product at work, on a KVM of this machine or of the lab.
//!
//! The viewer sees the text; the closing line is computed from what was observed meanwhile, judged
//! a second time by `analyze`, and a demo that did not show what it promises fails.

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::command;
use crate::judged::{Facts, Report};
use crate::lab::{self, Cell, Cpu, KernelChoice, Options};
use crate::setup::Setup;

/// MAXPHYADDR of the guests, and the root level that a 5-level EPT calls for.
const EXPECTED: [(u32, u8); 4] = [(36, 4), (48, 4), (49, 5), (52, 5)];

/// What drives the guests, quietly: `watch` is the one to be seen.
const CHECK: &str = "check --quiet --maxphyaddr 36,48,49,52";

/// The hook that shows decisions.
const HOOK: &str = "kvm_init_mmu return";

/// What `watch` saw, for the closing line.
const OBSERVED: &str = "events.ept";

/// Shows it, and judges what was shown.
pub fn main() -> Result<ExitCode> {
    let started = Instant::now();
    let setup = Setup::within_another_verb()?;
    let product = lab::prepare(&setup)?;
    let scratch = setup.cache.scratch("demo")?;
    let observed = scratch.path().join(OBSERVED);
    let colour = if stdout().is_terminal() { "always" } else { "never" };

    let in_lab = why_not_here(&product)?;
    let code = if let Some(why) = &in_lab {
        println!("demo: not on this machine ({why}), so in the lab\n");
        in_the_lab(&product, scratch.path(), colour)?
    } else {
        println!("demo: on this machine, whose KVM can be watched\n");
        here(&product, &observed, colour)?
    };
    if code != 0 {
        println!("\ndemo: `ept-trace watch` ended with exit code {code}");
        return Ok(lab::exit_code(code));
    }

    let mut analyze = Command::new(&product);
    let judged = command::run(analyze.args(["analyze", "-j"]).arg(&observed))?;
    let report = Report::parse(&String::from_utf8_lossy(&judged))?;
    let faults = faults(&report, in_lab.is_some());
    if !faults.is_empty() {
        bail!("the demo did not show what it should:\n  {}", faults.join("\n  "));
    }
    println!("\ndemo: {} ({:.0} s)", closing_line(&report), started.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// What `doctor -j` prints.
#[derive(Deserialize)]
struct Doctor {
    facts: Facts,
    hooks: Vec<Hook>,
}

#[derive(Deserialize)]
struct Hook {
    #[serde(rename = "hook")]
    name: String,
    attached: bool,
    how: String,
}

/// Why this machine's KVM cannot be shown, if it cannot.
fn why_not_here(product: &Path) -> Result<Option<String>> {
    let out = Command::new(product)
        .args(["doctor", "-j"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", product.display()))?;
    // Where it cannot run, it may not even know the facts; then its error is the reason.
    match serde_json::from_slice(&out.stdout) {
        Ok(doctor) => Ok(obstacle(&doctor)),
        Err(_) => Ok(Some(command::last_lines(&out.stderr, 1))),
    }
}

fn obstacle(doctor: &Doctor) -> Option<String> {
    let vendor = &doctor.facts.vendor;
    if vendor != "vmx" && vendor != "svm" {
        let other = vendor.get("other").and_then(Value::as_str);
        return Some(match other {
            Some(module) => format!("its KVM is {module}, which has no TDP"),
            None => "neither kvm_intel nor kvm_amd is loaded".to_owned(),
        });
    }
    let tdp = &doctor.facts.kvm.tdp_enabled;
    match tdp.pointer("/known/value").and_then(Value::as_bool) {
        Some(true) => {}
        Some(false) => return Some("its KVM runs with TDP off".to_owned()),
        None => return Some("whether its KVM has TDP on is not known".to_owned()),
    }
    match doctor.hooks.iter().find(|hook| hook.name == HOOK) {
        Some(hook) if hook.attached => None,
        Some(hook) => Some(format!("{HOOK} cannot be hooked: {}", hook.how)),
        None => Some(format!("{HOOK} is not in the plan")),
    }
}

fn here(product: &Path, observed: &Path, colour: &str) -> Result<i32> {
    println!("Small guests are started, each with another MAXPHYADDR: 36, 48, 49, 52 bits.");
    println!("For every vCPU, KVM chooses how many levels its TDP page table has; ept-trace sees");
    println!(
        "each choice as it is made, replays it from KVM's own inputs, and says if they agree.\n"
    );
    let status = Command::new(product)
        .args(["watch", "--color", colour, "-o"])
        .arg(observed)
        .arg("--")
        .arg(product)
        .args(CHECK.split(' '))
        .stdin(Stdio::null())
        .status()
        .context("cannot start ept-trace")?;
    Ok(status.code().unwrap_or(i32::from(crate::FAILURE)))
}

fn in_the_lab(product: &Path, out: &Path, colour: &str) -> Result<i32> {
    println!("Linux 6.12 boots on an emulated Intel CPU with 5-level EPT, KVM not loaded.");
    println!("ept-trace attaches; then kvm_intel is loaded (`hardware_setup`), and small guests");
    println!(
        "with MAXPHYADDR 36, 48, 49, 52 are started. Above 48 bits, and only there, KVM shall"
    );
    println!("choose a root level of 5. It takes half a minute.\n");
    let kernel = KernelChoice::parse("6.12", None)?.remove(0);
    let cell = Cell { cpu: Cpu::Vmx5, kernel };
    // The guests' own summary would stand in the middle of what `watch` shows.
    let guests = format!(
        "modprobe kvm_intel && until [ -e /dev/kvm ]; do sleep 0.1; done && \
         ept-trace {CHECK} --vcpus 1 >/dev/null"
    );
    let to = format!("/out/{OBSERVED}");
    let command = ["ept-trace", "watch", "--color", colour, "-o", &to, "--", "sh", "-c", &guests];
    let options = Options {
        load_kvm: false,
        stream: true,
        out: Some(out.to_owned()),
        ..Options::new(&command, product.to_owned())
    };
    Ok(lab::run(&cell, &options)?.exit_code)
}

/// What is missing or wrong. On this machine the module is loaded already, and the CPU may offer
/// fewer levels; there, the verdicts say what should have been.
fn faults(report: &Report, in_lab: bool) -> Vec<String> {
    let mut faults = report.faults.clone();
    for (bits, expected) in EXPECTED {
        let mut of_bits =
            report.decisions.iter().filter(|decision| decision.maxphyaddr == Some(bits)).peekable();
        if of_bits.peek().is_none() {
            faults.push(format!("no decision was seen for MAXPHYADDR {bits}"));
        }
        if in_lab && of_bits.any(|decision| decision.root_level != Some(expected)) {
            faults.push(format!("a root level other than {expected} for MAXPHYADDR {bits}"));
        }
    }
    if in_lab && report.hardware_setups.is_empty() {
        faults.push("hardware_setup was not seen".to_owned());
    }
    faults
}

fn closing_line(report: &Report) -> String {
    let levels = report.by_level().into_iter().map(|(level, bits)| {
        let bits: Vec<String> = bits.iter().map(u32::to_string).collect();
        format!("root level {level} for MAXPHYADDR {}", bits.join(", "))
    });
    let hardware_setup =
        report.hardware_setups.first().map(|function| format!("; {function} seen"));
    format!(
        "{} decisions, all ok: {}{}",
        report.decisions.len(),
        levels.collect::<Vec<_>>().join("; "),
        hardware_setup.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[(u32, u8)], hardware_setup: bool) -> Report {
        let decision = |(bits, level): &(u32, u8)| {
            format!(
                r#"{{"type":"decision","maxphyaddr":{bits},"root_level":{level},"verdict":"ok"}}"#
            )
        };
        let mut lines: Vec<String> = levels.iter().map(decision).collect();
        if hardware_setup {
            let line =
                r#"{"type":"setup","what":"hardware_setup","function":"m:f","verdict":"ok"}"#;
            lines.push(line.to_owned());
        }
        Report::parse(&lines.join("\n")).unwrap_or_default()
    }

    #[test]
    fn all_that_is_promised_is_asked_for() {
        assert_eq!(faults(&report(&EXPECTED, true), true), Vec::<String>::new());
        assert_eq!(faults(&report(&EXPECTED, false), true), ["hardware_setup was not seen"]);
        let missing = faults(&report(&EXPECTED[..3], true), true);
        assert_eq!(missing, ["no decision was seen for MAXPHYADDR 52"]);
        let low = [(36, 4), (48, 4), (49, 4), (52, 5)];
        let wrong = faults(&report(&low, true), true);
        assert_eq!(wrong, ["a root level other than 5 for MAXPHYADDR 49"]);
    }

    fn doctor(vendor: &str, tdp: &str, attached: bool) -> Option<String> {
        let json = format!(
            r#"{{"facts":{{"vendor":{vendor},"behaviour":{{"has_tdp_root_level":true,
            "has_max_tdp_level":true,"has_cached_tdp_level":false,"has_maxguestphyaddr":false}},
            "kvm":{{"tdp_enabled":{tdp}}}}},"hooks":[{{"hook":"kvm_init_mmu return",
            "attached":{attached},"how":"no kprobe events"}}],"not_seen":[]}}"#
        );
        serde_json::from_str(&json).map_or_else(|error| Some(error.to_string()), |it| obstacle(&it))
    }

    #[test]
    fn a_machine_is_shown_only_if_its_decisions_can_be_seen() {
        let on = r#"{"known":{"value":true,"origin":"x"}}"#;
        let off = on.replace("true", "false");
        let unknown = r#"{"unknown":{"why":"x"}}"#;
        assert_eq!(doctor("\"vmx\"", on, true), None);
        let refused = [
            (doctor("\"none\"", on, true), "neither kvm_intel nor kvm_amd is loaded"),
            (doctor(r#"{"other":"kvm_pvm"}"#, on, true), "its KVM is kvm_pvm, which has no TDP"),
            (doctor("\"svm\"", &off, true), "its KVM runs with TDP off"),
            (doctor("\"svm\"", unknown, true), "whether its KVM has TDP on is not known"),
            (
                doctor("\"vmx\"", on, false),
                "kvm_init_mmu return cannot be hooked: no kprobe events",
            ),
        ];
        for (why, expected) in refused {
            assert_eq!(why.as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_machine_of_its_own_kind_has_its_own_levels() {
        let four = EXPECTED.map(|(bits, _)| (bits, 4));
        assert_eq!(faults(&report(&four, false), false), Vec::<String>::new());
    }

    #[test]
    fn the_closing_line_tells_the_levels() {
        assert_eq!(
            closing_line(&report(&EXPECTED, true)),
            "4 decisions, all ok: root level 4 for MAXPHYADDR 36, 48; \
             root level 5 for MAXPHYADDR 49, 52; m:f seen"
        );
    }
}
