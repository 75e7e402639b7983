//! What trace-cmd and perf make of their own files, outside of the guest.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// What `trace-cmd report` writes of trace.dat with these options.
const REPORTS: [(&str, &[&str]); 5] = [
    ("report.txt", &[]),
    ("report.raw.txt", &["-R"]),
    ("report.no-plugins.txt", &["-N"]),
    ("report.latency.txt", &["-l"]),
    ("report.ns.txt", &["-t"]),
];

/// What `perf script` writes of a file with these options.
const SCRIPTS: [(&str, &str, &[&str]); 6] = [
    ("perf-script.txt", "perf.data", &["--show-lost-events"]),
    ("perf-script.pid.txt", "perf.data", &["-F", "+pid"]),
    ("perf-script.ns.txt", "perf.data", &["--ns"]),
    ("perf-script.few.txt", "perf.few.data", &["--show-lost-events"]),
    ("perf-script.pipe.txt", "perf.pipe.data", &[]),
    ("perf-script.zstd.txt", "perf.zstd.data", &[]),
];

/// The versions of trace.dat, not compressed.
const VERSIONS: [(&str, &str); 2] = [("trace.v6.dat", "6"), ("trace.v7.dat", "7")];

/// Writes all that can be made of the files in a session's directory.
pub fn derive(dir: &Path) -> Result<()> {
    let is_there = |file: &str| dir.join(file).exists();
    if is_there("trace.dat") {
        for (text, options) in REPORTS {
            let mut report = Command::new("trace-cmd");
            write(report.arg("report").args(options).arg("trace.dat"), dir, text)?;
        }
        for (file, version) in VERSIONS {
            let mut convert = Command::new("trace-cmd");
            convert.args(["convert", "-i", "trace.dat", "-o", file, "--file-version", version]);
            command::run(convert.args(["--compression", "none"]).current_dir(dir))?;
        }
    }
    for (text, file, options) in SCRIPTS {
        if is_there(file) {
            let mut script = Command::new("perf");
            write(script.args(["script", "-i", file]).args(options), dir, text)?;
        }
    }
    Ok(())
}

/// What a command prints, as a file.
pub fn write(command: &mut Command, dir: &Path, file: &str) -> Result<()> {
    let printed = command::run(command.current_dir(dir))?;
    fs::write(dir.join(file), printed).with_context(|| format!("cannot write {file}"))
}
