//! Finds what can build the eBPF object: a Rust compiler that can build `core` for
//! `bpfel-unknown-none`, and bpf-linker with the same LLVM.
//!
//! Shared by `build.rs`, which fails with the one command that mends it, and by
//! `cargo xtask setup`, which is that command.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler with the source of `core`, and the linker.
#[derive(Debug, Clone)]
pub struct BpfToolchain {
    /// The cargo to call.
    pub cargo: PathBuf,
    /// The rustc that cargo shall call.
    pub rustc: PathBuf,
    /// The linker of the target `bpfel-unknown-none`.
    pub bpf_linker: PathBuf,
}

/// The user's cache directory of this project: `$XDG_CACHE_HOME/ept-trace`, else
/// `~/.cache/ept-trace`.
pub fn cache_dir() -> Option<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .map(|dir| dir.join("ept-trace"))
}

/// The compiler and linker to use, or what is missing.
pub fn find() -> Result<BpfToolchain, String> {
    let (cargo, rustc) =
        find_compiler().ok_or("no Rust compiler with the source of `core` (rust-src) was found")?;
    let bpf_linker = find_linker().ok_or("bpf-linker was not found")?;
    Ok(BpfToolchain { cargo, rustc, bpf_linker })
}

/// `(cargo, rustc)` of a toolchain that has the source of `core`.
///
/// Debian's own comes first: `setup` builds bpf-linker against Debian's LLVM, and the two must
/// agree on the bitcode they speak.
pub fn find_compiler() -> Option<(PathBuf, PathBuf)> {
    let debian = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    if debian.0.exists() && has_core_source(&debian.1) {
        return Some(debian);
    }
    let nightly = |tool| {
        let out = Command::new("rustup").args(["which", "--toolchain", "nightly", tool]).output();
        let out = out.ok().filter(|out| out.status.success())?;
        Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
    };
    let nightly = (nightly("cargo")?, nightly("rustc")?);
    has_core_source(&nightly.1).then_some(nightly)
}

fn has_core_source(rustc: &Path) -> bool {
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output();
    sysroot.ok().filter(|out| out.status.success()).is_some_and(|out| {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
        sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    })
}

/// bpf-linker: the one that `setup` built, else one in `PATH`.
pub fn find_linker() -> Option<PathBuf> {
    let cached = cache_dir().map(|dir| dir.join("bpf-linker/bin/bpf-linker"));
    let in_path = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("bpf-linker"))
        .collect::<Vec<_>>();
    cached.into_iter().chain(in_path).find(|path| path.exists())
}
