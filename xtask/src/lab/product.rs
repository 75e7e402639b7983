//! Programs as the guest gets them: static release binaries, built from this tree.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::setup::{Setup, bpf};

/// Static with glibc, so that no other target has to be installed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `ept-trace`, and returns the binary.
pub fn build(setup: &Setup) -> Result<PathBuf> {
    bpf::ensure(setup)?;
    package("ept-trace")
}

/// Builds the VMM of known guests, and returns the binary.
pub fn build_vmm() -> Result<PathBuf> {
    package("vmm")
}

/// Builds a package. A target directory of its own keeps the flags from rebuilding everything else.
fn package(name: &str) -> Result<PathBuf> {
    let target_dir = command::repository().join("target/lab");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", name, "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(command::repository())
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cannot build the static {name} (see above)");
    }
    Ok(target_dir.join(TARGET).join("release").join(name))
}
