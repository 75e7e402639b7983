//! `cargo xtask walks`: the walk oracle against the CPUs of the lab.

mod case;
mod compare;
mod expect;
mod machine;
mod memory;
mod program;
mod random;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use self::case::Case;
use self::machine::Boot;
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
    cases: u64,
    /// How long a CPU may take, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 300)]
    timeout: u64,
}

/// Runs the cases on every CPU asked for.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup::within_another_verb()?;
    packages::ensure(&setup, &packages::LAB)?;
    let image = program::build(&setup)?;
    for cpu in Cpu::parse(&args.cpu)? {
        let boot = Boot { cpu, image: &image, timeout: Duration::from_secs(args.timeout) };
        let t = std::time::Instant::now();
        let (machine, _) = machine::run(&setup, &boot, &0_u64.to_le_bytes())?;
        println!("{machine:x?} {:?}", t.elapsed());
        let mut cases = Vec::new();
        let mut n = 0;
        while (cases.len() as u64) < args.cases {
            let case = Case::new(args.seed, n, &machine);
            n += 1;
            if let Some(e) = expect::expect(&case, &machine) {
                cases.push((case, e));
            }
        }
        let words = std::iter::once(cases.len() as u64).chain(cases.iter().flat_map(|c| c.0.to_words()));
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        let (machine, answers) = machine::run(&setup, &boot, &bytes)?;
        println!("made {n} {machine:x?} {:?} answers {}", t.elapsed(), answers.len());
        let mut kinds = std::collections::BTreeMap::<String, (u64, u64)>::new();
        for (c, a) in cases.iter().zip(&answers) {
            let d = compare::differences(&c.0, &c.1, a);
            let end = match &c.1.end {
                expect::End::Stopped { access, walk, .. } => format!("{:?} {:?} {}", access.stage, access.kind, match walk.outcome { ept_trace::ept::Outcome::Misconfiguration { level, reasons } => format!("misconf {level} {reasons}"), ept_trace::ept::Outcome::Violation(v) => format!("viol {:?}", v.level), ept_trace::ept::Outcome::NestedFault(n) => format!("npf {:?} {:x}", n.level, n.exitinfo1), _ => "?".to_owned()}),
                expect::End::Halted(_) => format!("halted {:?}", c.0.kind), 
                other => format!("{other:?}").split('(').next().unwrap_or("").to_owned(),
            };
            let short: Vec<String> = d.iter().map(|d| match d { compare::Difference::Qualification(a, b) => format!("Q {a:x}^{:x}", a ^ b), compare::Difference::Gpa(a, b) => format!("G ^{:x}", a ^ b), compare::Difference::Rax(..) => "rax".to_owned(), compare::Difference::Reason(a, b) => format!("R {a:x} {b:x}"), compare::Difference::Word(_, a, b) => format!("W ^{:x}", a ^ b)}).collect();
            let k = kinds.entry(if d.is_empty() { format!("= {end}") } else { format!("! {end} {}", short.join(", ")) }).or_insert((0, c.0.number));
            k.0 += 1;
            if std::env::var("ONLY").is_ok_and(|v| v.split(',').any(|v| v == c.0.number.to_string())) {
                println!("#### {} {end}\n{:x?}\n{:x?}", c.0.number, c.0, a);
                for x in &d { println!("   {x}"); }
                if let expect::End::Stopped { walk, .. } = &c.1.end { println!("{:x?}", walk.trail.iter().collect::<Vec<_>>()); }
            }
        }
        for (k, (n, first)) in kinds { println!("{n:6} {first:6} {k}"); }
    }
    Ok(ExitCode::SUCCESS)
}
