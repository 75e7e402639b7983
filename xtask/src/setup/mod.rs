//! `cargo xtask setup`: makes everything that the eBPF build and the lab need.
//!
//! Each step looks for its result first, by presence, and does nothing more where it is there;
//! so other verbs call the same steps and pay nothing for it.

pub mod apt;
pub mod bochs;
pub mod bpf;
pub mod config;
pub mod kernels;
pub mod kvm_source;
pub mod modules;
pub mod own;
pub mod packages;
pub mod sources;

use std::process::ExitCode;

use anyhow::Result;

use crate::cache::Cache;

/// `cargo xtask setup`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask the package archives again, and take newer kernels than the cached ones
    #[arg(long)]
    refresh: bool,
}

/// What every step needs to know.
#[derive(Debug)]
pub struct Setup {
    /// Where results go.
    pub cache: Cache,
    /// Ask the archives although a result is cached.
    pub refresh: bool,
    /// Say so when a result is cached; as part of another verb that is noise.
    announce_cached: bool,
}

impl Setup {
    /// The steps as part of another verb.
    pub fn within_another_verb() -> Result<Self> {
        Ok(Self { cache: Cache::open()?, refresh: false, announce_cached: false })
    }

    /// Tells that `step` had nothing to do.
    pub fn cached(&self, step: &str, what: &str) {
        if self.announce_cached {
            eprintln!("setup: {step}: {what} ... cached");
        }
    }

    /// Tells that `step` starts what may take a while.
    #[expect(clippy::unused_self, reason = "the pair of `cached`")]
    pub fn working(&self, step: &str, what: &str, how: &str) {
        eprintln!("setup: {step}: {what} ... {how}");
    }
}

/// Runs all steps.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup { cache: Cache::open()?, refresh: args.refresh, announce_cached: true };
    ensure_all(&setup)?;
    Ok(ExitCode::SUCCESS)
}

/// All steps, one after the other.
pub fn ensure_all(setup: &Setup) -> Result<()> {
    packages::ensure(setup, &packages::LAB)?;
    packages::ensure(setup, &packages::WITNESSES)?;
    bpf::ensure(setup)?;
    for debian in kernels::DEBIAN {
        kernels::ensure(setup, debian)?;
    }
    bochs::ensure(setup)?;
    Ok(())
}
