//! Builds the eBPF object that the feature `live` embeds.

#[path = "toolchain.rs"]
mod toolchain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        return;
    }
    if let Err(why) = build_object() {
        eprintln!("error: the eBPF object cannot be built: {why}");
        eprintln!("  this mends it:             cargo xtask setup");
        eprintln!("  to do without live tracing: cargo build --no-default-features");
        exit(1);
    }
}

fn build_object() -> Result<(), String> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest dir")?);
    let workspace = manifest_dir.parent().ok_or("the crate is not in its workspace")?;
    for part in ["ept-trace-ebpf", "ept-trace-common", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    if let Some(cache) = toolchain::cache_dir() {
        println!("cargo::rerun-if-changed={}", cache.join("bpf-linker").display());
    }

    let toolchain = toolchain::find()?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let target_dir = out_dir.join("ebpf");
    let status = cargo_build(&toolchain, workspace, &target_dir).status();
    let status = status.map_err(|err| format!("{}: {err}", toolchain.cargo.display()))?;
    if !status.success() {
        return Err(format!("{} build failed ({status})", toolchain.cargo.display()));
    }
    let object = target_dir.join("bpfel-unknown-none/release/ept-trace-ebpf");
    println!("cargo::rustc-env=EPT_TRACE_EBPF_OBJECT={}", object.display());
    Ok(())
}

fn cargo_build(
    toolchain: &toolchain::BpfToolchain,
    workspace: &Path,
    target_dir: &Path,
) -> Command {
    let mut cargo = Command::new(&toolchain.cargo);
    // What the outer cargo set for its own compiler must not reach the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTUP_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("RUSTC", &toolchain.rustc)
        // `core` is built from source, which a stable compiler does only when told so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.bpf_linker)
        .current_dir(workspace)
        .args(["build", "--release", "--package", "ept-trace-ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target_dir);
    cargo
}
