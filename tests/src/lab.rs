//! Booting cells of the lab, and what comes out of them.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
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
/// If the lab cannot be started at all.
pub fn lab(test: &str, cell: Cell, script: &str) -> Run {
    lab_with(&[], test, cell, script)
}

/// The same, with programs of this machine and their libraries, which `/add/run PROGRAM ...` runs.
///
/// # Panics
///
/// As [`lab`], and if a program is not there.
pub fn lab_with_programs(programs: &[&str], test: &str, cell: Cell, script: &str) -> Run {
    let runner = tempfile::tempdir().expect("a temporary directory");
    let files = add(programs, runner.path());
    let files = files.iter().map(|file| file.to_str().expect("a path in UTF-8"));
    let mut options = vec!["--timeout", "900"];
    options.extend(files.flat_map(|file| ["--add", file]));
    lab_with(&options, test, cell, script)
}

/// The same, with options of the lab.
///
/// # Panics
///
/// As [`lab`].
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

/// The files of programs, and what runs them.
fn add(programs: &[&str], dir: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for program in programs {
        let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(program));
        let found = places.into_iter().find(|place| place.is_file());
        let file = found.unwrap_or_else(|| panic!("{program} is not installed"));
        let ldd = Command::new("ldd").arg(&file).output().expect("ldd of libc-bin");
        let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
        let libraries = libraries.split_ascii_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.map(PathBuf::from));
        files.insert(file);
    }
    if !programs.is_empty() {
        let runner = dir.join("run");
        let script = "#!/bin/sh\nprogram=$1; shift\n\
                      exec /add/ld-linux-x86-64.so.2 --library-path /add /add/$program \"$@\"\n";
        fs::write(&runner, script).expect("a temporary file");
        fs::set_permissions(&runner, Permissions::from_mode(0o755)).expect("its mode");
        files.insert(runner);
    }
    files
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
