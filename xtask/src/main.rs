//! The developer's commands, called as `cargo xtask <verb>`.
//!
//! A verb is one module with `Args` and `main`, and one line in [`Verb`].

#[path = "../../ept-trace/build/bare.rs"]
mod bare;
mod bench;
mod bugs;
mod cache;
mod command;
mod demo;
mod document;
mod fuzz;
mod judged;
mod kernels;
mod lab;
mod logs;
mod package;
mod setup;
mod test;
#[path = "../../ept-trace/build/toolchain.rs"]
mod toolchain;
mod walks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a verb's failure exits with; the lab otherwise exits as the command inside it did.
const FAILURE: u8 = 2;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's commands of ept-trace")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch and build what the eBPF build and the lab need; quick when all is there
    Setup(setup::Args),
    /// Boot a real KVM in an emulator, and run a command (default: `ept-trace check`) inside
    Lab(lab::Args),
    /// Show it at work: on this machine if its KVM can be watched, else in the lab
    Demo,
    /// Format, lints, builds and all tests, those in the lab too
    Test(test::Args),
    /// Hold the walk oracle against what the lab's CPUs do, without a kernel
    Walks(walks::Args),
    /// Check every cell of the lab, and renew the corpus and the table in docs/kernels.md
    Kernels(kernels::Args),
    /// Let the parsers of files loose on what a fuzzer makes of good ones
    Fuzz(fuzz::Args),
    /// Record guests in the lab with the tools that people have, and renew tests/corpus/logs
    Logs(logs::Args),
    /// Make the static program and a Debian package; --try installs it into a bare root
    Package(package::Args),
    /// Lay out the source of KVM in Debian's 6.1, so that `make` builds its modules for the lab
    KvmSource(setup::kvm_source::Args),
    /// Put bugs that KVM has had back into its source, and see that each is found
    Bugs(bugs::Args),
    /// Measure how long it takes to attach, and what the verifier makes of the programs
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::main(&args),
        Verb::Lab(args) => lab::main(&args),
        Verb::Demo => demo::main(),
        Verb::Test(args) => test::main(&args),
        Verb::Walks(args) => walks::main(&args),
        Verb::Kernels(args) => kernels::main(&args),
        Verb::Fuzz(args) => fuzz::main(&args),
        Verb::Logs(args) => logs::main(&args),
        Verb::Package(args) => package::main(&args),
        Verb::KvmSource(args) => setup::kvm_source::main(&args),
        Verb::Bugs(args) => bugs::main(&args),
        Verb::Bench(args) => bench::main(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(FAILURE)
    })
}
