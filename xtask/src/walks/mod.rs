//! `cargo xtask walks`: the walk oracle against the CPUs of the lab.
//!
//! No kernel is booted, but a program of our own (`xtask/walker`), so that it is the CPU that walks.
//! A case is a guest's tables and EPT or NPT, made by chance and mostly right, and one access; the
//! oracle says how it should end and what should be in memory then. Where the CPU does otherwise, it
//! must be as a known [quirk](quirk::Quirk) of it foretells; else the run fails.

mod case;
mod compare;
mod expect;
mod machine;
mod memory;
mod oracle;
mod program;
mod quirk;
mod random;
mod report;
mod tables;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use walker::protocol::Machine;

use self::case::Case;
use self::expect::{Expected, expect};
use self::machine::Boot;
use self::quirk::Quirk;
use self::report::Report;
use crate::FAILURE;
use crate::lab::Cpu;
use crate::setup::{Setup, packages};

/// `cargo xtask walks`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// svm, svm-la48, vmx, vmx5 or all
    #[arg(long, default_value = "all")]
    cpu: String,
    /// By which the cases are made
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many cases each CPU gets
    #[arg(long, default_value_t = 4000)]
    cases: usize,
    /// Only the case with this number, with all that is known of it
    #[arg(long, value_name = "NUMBER", conflicts_with = "cases")]
    only: Option<u64>,
    /// How long a CPU may take, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 300)]
    timeout: u64,
}

/// Runs the cases on every CPU asked for.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cpus = Cpu::parse(&args.cpu)?;
    let setup = Setup::within_another_verb()?;
    packages::ensure(&setup, &packages::LAB)?;
    let image = program::build(&setup)?;
    let timeout = Duration::from_secs(args.timeout);
    let mut all_known = true;
    for cpu in cpus {
        let boot = Boot { cpu, image: &image, timeout };
        // Which cases there can be is for the CPU to say.
        let (machine, _) = machine::run(&setup, &boot, &to_bytes(&[]))?;
        let cases = cases(args, &machine, Quirk::of(cpu));
        let (again, answers) = machine::run(&setup, &boot, &to_bytes(&cases))?;
        ensure!(again == machine && answers.len() == cases.len(), "{}: it changed", cpu.name());
        let report = Report::new(cpu, &machine, &cases, &answers);
        println!("{report}");
        if !report.is_known() {
            println!("  a case again: --cpu {} --seed {} --only NUMBER", cpu.name(), args.seed);
        }
        if args.only.is_some() {
            cases.iter().zip(&answers).for_each(|of| println!("{of:#x?}"));
        }
        all_known &= report.is_known();
    }
    Ok(if all_known { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

/// The cases, with what the oracle says. Those on which it can say nothing are passed over, or could
/// not if the CPU had any of its quirks.
fn cases(args: &Args, machine: &Machine, quirks: &[Quirk]) -> Vec<(Case, Expected)> {
    let choices = Quirk::choices(quirks);
    let made = |number| {
        let case = Case::new(args.seed, number, machine);
        let known = choices.iter().all(|quirks| expect(&case, machine, quirks).is_some());
        let expected = expect(&case, machine, &[]).filter(|_| known)?;
        Some((case, expected))
    };
    match args.only {
        Some(number) => made(number).into_iter().collect(),
        None => (0..).filter_map(made).take(args.cases).collect(),
    }
}

/// As the program takes them.
fn to_bytes(cases: &[(Case, Expected)]) -> Vec<u8> {
    let count = cases.len() as u64;
    let words = cases.iter().flat_map(|(case, _)| case.to_words());
    [count].into_iter().chain(words).flat_map(u64::to_le_bytes).collect()
}
