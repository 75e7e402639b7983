//! `cargo xtask bugs`: bugs that KVM has had, put back into the source of Debian's 6.1 by one line
//! each. The modules are built, booted in the lab, and must be found guilty of just that; built
//! without the bug, they must be clean.
//!
//! A bug is a patch in `xtask/lab/bugs`, whose head tells what it is, and how it shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lab::{self, Cell, Cpu, KernelChoice, Options, Outcome};
use crate::setup::{Setup, kvm_source};
use crate::{FAILURE, command};

/// `cargo xtask bugs`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Patches of xtask/lab/bugs, without `.patch` (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// A patch, and how what it does shows.
struct Bug {
    name: String,
    patch: PathBuf,
    cpu: Cpu,
    command: String,
    rule: String,
}

/// Builds KVM with each bug, and has it judged.
pub fn main(args: &Args) -> Result<ExitCode> {
    let bugs = bugs(&args.names)?;
    let setup = Setup::within_another_verb()?;
    let product = lab::prepare(&setup)?;
    let draft = setup.cache.lock("bugs")?.draft()?;
    let tree = draft.path().join("tree");
    kvm_source::copy(&setup, &tree)?;

    let healthy = draft.path().join("healthy");
    println!(
        "KVM of Debian's {} built in {:.0} s",
        kvm_source::KERNEL.version,
        build(&tree, &healthy)?
    );
    let mut missed = 0;
    for bug in &bugs {
        apply(&tree, bug, &[])?;
        let faulty = draft.path().join(&bug.name);
        let seconds = build(&tree, &faulty)?;
        apply(&tree, bug, &["--reverse"])?;
        println!("{}: built in {seconds:.0} s", bug.name);
        let without = judge(bug, &healthy, &product)?;
        let with = judge(bug, &faulty, &product)?;
        let is_told = tell(bug, &without, &with);
        missed += u32::from(!is_told);
    }
    println!("{} of {} bugs found", bugs.len() - missed as usize, bugs.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// The bugs of these names, or all.
fn bugs(names: &[String]) -> Result<Vec<Bug>> {
    let dir = command::repository().join("xtask/lab/bugs");
    let patches = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut bugs = Vec::new();
    for patch in patches {
        bugs.push(Bug::read(patch?.path())?);
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(name) = names.iter().find(|name| bugs.iter().all(|bug| bug.name != **name)) {
        let known: Vec<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
        bail!("no bug `{name}`: {}", known.join(", "));
    }
    bugs.retain(|bug| names.is_empty() || names.contains(&bug.name));
    Ok(bugs)
}

impl Bug {
    fn read(patch: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&patch)?;
        let field = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            value.with_context(|| format!("{} has no line `{key}: ...`", patch.display()))
        };
        Ok(Self {
            name: patch.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            cpu: *Cpu::parse(field("CPU")?)?.first().context("a CPU")?,
            command: field("Command")?.to_owned(),
            rule: field("Rule")?.to_owned(),
            patch,
        })
    }
}

fn apply(tree: &Path, bug: &Bug, options: &[&str]) -> Result<()> {
    let mut patch = Command::new("patch");
    patch.args(["-p1", "--fuzz=0", "--directory"]).arg(tree).args(options);
    command::run(patch.arg("--input").arg(&bug.patch))
        .with_context(|| format!("{} does not fit this version of KVM", bug.name))?;
    Ok(())
}

/// Builds the modules, puts them into the new directory `into`, and returns the seconds it took.
fn build(tree: &Path, into: &Path) -> Result<f64> {
    let started = Instant::now();
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    command::run(Command::new("make").arg("-C").arg(tree).arg(format!("-j{jobs}")))?;
    let seconds = started.elapsed().as_secs_f64();
    fs::create_dir(into)?;
    for module in ["kvm.ko", "kvm-intel.ko", "kvm-amd.ko"] {
        fs::rename(tree.join("arch/x86/kvm").join(module), into.join(module))?;
    }
    Ok(seconds)
}

fn judge(bug: &Bug, modules: &Path, product: &Path) -> Result<Outcome> {
    let kernel = KernelChoice::Patched(kvm_source::KERNEL, modules.to_owned());
    let words: Vec<&str> = bug.command.split(' ').collect();
    lab::run(&Cell { cpu: bug.cpu, kernel }, &Options::new(&words, product.to_owned()))
}

/// Prints what came of it; whether the bug, and nothing but the bug, was found.
fn tell(bug: &Bug, without: &Outcome, with: &Outcome) -> bool {
    let output = String::from_utf8_lossy(&with.output);
    let finding = output.lines().position(|line| {
        line.trim_start().strip_prefix(&bug.rule).is_some_and(|rest| rest.starts_with(" MISMATCH"))
    });
    for (what, outcome) in [("without", without), ("with", with)] {
        let (code, seconds) = (outcome.exit_code, outcome.total_time.as_secs_f64());
        println!("  {what} the bug: exit code {code} ({seconds:.0} s on {})", bug.cpu.name());
    }
    // The finding, and its evidence.
    for line in output.lines().skip(finding.unwrap_or(usize::MAX)).take(3) {
        println!("  {line}");
    }
    (without.exit_code, with.exit_code, finding.is_some()) == (0, 1, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_says_how_its_bug_shows() {
        let bugs = bugs(&[]).expect("bugs");
        assert!(bugs.len() >= 4);
        assert!(bugs.iter().all(|bug| bug.rule.starts_with("EPT")));
        assert!(bugs.iter().all(|bug| bug.command.starts_with("ept-trace check")));
    }
}
