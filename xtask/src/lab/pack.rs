//! A program of this machine for a guest that has no libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Packs `program` with all the libraries that it needs, flat, as `NAME.tgz` in `scratch`. In the
/// guest it runs as `ld-linux-x86-64.so.2 NAME`, with `LD_LIBRARY_PATH` where it was unpacked.
pub fn pack(program: &Path, scratch: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let needed = command::run(Command::new("ldd").arg(program))?;
    let needed = String::from_utf8_lossy(&needed);
    let files = needed.split_whitespace().filter(|word| word.starts_with('/'));
    let archive = scratch.join(name).with_extension("tgz");
    let mut tar = Command::new("tar");
    // Links are followed, and directories left behind.
    tar.args(["-chzf"]).arg(&archive).args(["--transform", "s:.*/::"]).arg(program).args(files);
    command::run(&mut tar)?;
    Ok(archive)
}
