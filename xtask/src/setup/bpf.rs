//! What builds the eBPF object: a compiler with the source of `core`, and bpf-linker.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Setup, packages};
use crate::{command, toolchain};

/// The version that is known to link what Debian's rustc emits.
const VERSION: &str = "0.13.0";
/// The LLVM that Debian's rustc and bpf-linker share.
const LLVM: &str = "/usr/lib/llvm-22";

/// Makes `toolchain::find` succeed.
pub fn ensure(setup: &Setup) -> Result<()> {
    if let Ok(found) = toolchain::find() {
        let tools = [&found.cargo, &found.rustc, &found.bpf_linker].map(|tool| tool.display());
        setup.cached("bpf", &format!("{} {} {}", tools[0], tools[1], tools[2]));
        return Ok(());
    }
    if toolchain::find_compiler().is_none() {
        packages::ensure(setup, &packages::BPF_COMPILER).context(
            "no Rust compiler with the source of `core`; one way to it: \
             `rustup toolchain install nightly --component rust-src`",
        )?;
    }
    let lock = setup.cache.lock("bpf-linker")?;
    if toolchain::find_linker().is_none() {
        packages::ensure(setup, &packages::BPF_LINKER_BUILD)?;
        setup.working("bpf", &format!("bpf-linker {VERSION}"), "building (two minutes)");
        let draft = lock.draft()?;
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "bpf-linker", "--version", VERSION, "--locked"]);
        cargo.args(["--no-default-features", "--features", "llvm-22", "--root"]);
        cargo.arg(draft.path().join("root")).env("CARGO_TARGET_DIR", draft.path().join("target"));
        command::run(cargo.env("LLVM_PREFIX", LLVM)).context("cannot build bpf-linker")?;
        draft.publish("root", &setup.cache.path("bpf-linker"))?;
    }
    toolchain::find().map_err(anyhow::Error::msg)?;
    Ok(())
}
