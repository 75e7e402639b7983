//! Builds a program of this workspace for a target without an operating system.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::BpfToolchain;

/// Such a program.
pub struct Program {
    /// The package, which is the name of its binary too.
    pub package: &'static str,
    /// The target.
    pub target: &'static str,
    /// Its linker.
    pub linker: PathBuf,
    /// What the compiler is told.
    pub rustflags: Vec<String>,
}

impl Program {
    /// Builds it; where it is.
    pub fn build(
        &self,
        toolchain: &BpfToolchain,
        workspace: &Path,
        target_dir: &Path,
    ) -> Result<PathBuf, String> {
        let status = self.cargo(toolchain, workspace, target_dir).status();
        let status = status.map_err(|err| format!("{}: {err}", toolchain.cargo.display()))?;
        if !status.success() {
            return Err(format!("{} build failed ({status})", toolchain.cargo.display()));
        }
        Ok(target_dir.join(self.target).join("release").join(self.package))
    }

    fn cargo(&self, toolchain: &BpfToolchain, workspace: &Path, target_dir: &Path) -> Command {
        let mut cargo = Command::new(&toolchain.cargo);
        // What the outer cargo set for its own compiler must not reach the inner one.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTUP_") {
                cargo.env_remove(&*name);
            }
        }
        let linker =
            format!("CARGO_TARGET_{}_LINKER", self.target.to_uppercase().replace('-', "_"));
        cargo
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env("RUSTC", &toolchain.rustc)
            // `core` is built from source, which a stable compiler does only when told so.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags.join("\x1f"))
            .env(linker, &self.linker)
            .current_dir(workspace)
            .args(["build", "--release", "--package", self.package, "--target", self.target])
            // Without an operating system there is no libc to copy memory either.
            .args(["-Z", "build-std=core", "-Z", "build-std-features=compiler-builtins-mem"])
            .arg("--target-dir")
            .arg(target_dir);
        cargo
    }
}
