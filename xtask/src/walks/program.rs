//! The program, as a kernel that both emulators boot.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use object::{Object, ObjectSegment};

use crate::bare::Program;
use crate::setup::{Setup, bpf};
use crate::{command, toolchain};

/// Where `xtask/walker/link.ld` has what follows the two sectors of set-up.
const LOADED_AT: u64 = 0x10_0000;

/// The size of the set-up: the boot sector and one more.
const SETUP: u64 = 1024;

/// Builds it.
pub fn build(setup: &Setup) -> Result<Vec<u8>> {
    // Its compiler can build `core`, which this needs as well.
    bpf::ensure(setup)?;
    let workspace = command::repository();
    let program = Program {
        package: "walker",
        target: "x86_64-unknown-none",
        // That of the C compiler, without which there is no Rust on the host either.
        linker: PathBuf::from("ld"),
        rustflags: vec![
            "-Clinker-flavor=ld".to_owned(),
            "-Crelocation-model=static".to_owned(),
            "-Ccode-model=small".to_owned(),
            format!("-Clink-arg=-T{}", workspace.join("xtask/walker/link.ld").display()),
        ],
    };
    let toolchain = toolchain::find().map_err(anyhow::Error::msg)?;
    let target_dir = workspace.join("target/walker");
    let path = program.build(&toolchain, workspace, &target_dir).map_err(anyhow::Error::msg)?;
    let elf = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    image(&elf).with_context(|| format!("{} is no such program", path.display()))
}

/// The set-up, linked at 0, and what is loaded, one after the other.
fn image(elf: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(elf)?;
    let mut image = Vec::new();
    for segment in file.segments() {
        let (address, data) = (segment.address(), segment.data()?);
        if !data.is_empty() {
            let behind = if address < LOADED_AT { address } else { address - LOADED_AT + SETUP };
            image.resize(usize::try_from(behind)?, 0);
            image.extend(data);
        }
    }
    Ok(image)
}
