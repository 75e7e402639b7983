//! Booting cells of the lab, and what comes out of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Cell;

/// A run in the lab.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub output: String,
    /// What the command left in /out.
    pub out: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.out);
    }
}

/// Boots a cell and runs a script in it.
///
/// # Panics
///
/// If xtask cannot be started.
pub fn lab(test: &str, cell: Cell, script: &str) -> Run {
    lab_with(&[], test, cell, script)
}

/// The same, with options of the lab.
///
/// # Panics
///
/// If xtask cannot be started.
pub fn lab_with(options: &[&str], test: &str, cell: Cell, script: &str) -> Run {
    let out = std::env::temp_dir().join(format!("ept-trace-{test}-{}", std::process::id()));
    let mut command = xtask();
    let output = command
        .args(["lab", "--cpu", cell.cpu, "--kernel", cell.kernel])
        .args(options)
        .arg("--out")
        .arg(&out)
        .args(["--", "sh", "-c", script])
        .output()
        .expect("xtask can be started");
    Run { code: output.status.code(), output: crate::text(&output), out }
}

/// `cargo xtask`, without cargo where the tests were started by it.
pub fn xtask() -> Command {
    let mut command = if let Some(xtask) = std::env::var_os("EPT_TRACE_XTASK") {
        Command::new(xtask)
    } else {
        let mut cargo = Command::new("cargo");
        cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
        cargo
    };
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

/// Reads a file of JSON lines.
///
/// # Panics
///
/// If it cannot be read, or a line is no JSON.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"));
    text.lines().map(parse).collect()
}
