//! Bochs, an emulator with VMX, built from Debian's source with two edits of our own: EPT with
//! five levels, and a device by which the guest has its kernel's memory changed. One build serves
//! all, for both are switched on by environment variables.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};

use super::apt::Root;
use super::sources::Kind;
use super::{Setup, packages};
use crate::command;

/// The suite whose Bochs the patches are for, and the version of it.
const SUITE: &str = "trixie";
const VERSION: &str = "3.0";

const PATCHES: [&str; 2] =
    [include_str!("../../lab/bochs-ept5.patch"), include_str!("../../lab/bochs-poke.patch")];

/// No display and no debugger: four times as fast as Debian's package, and needs no terminal.
const CONFIGURE: [&str; 11] = [
    "--with-nogui",
    "--enable-x86-64",
    "--enable-vmx=2",
    "--enable-svm",
    "--enable-avx",
    "--enable-evex",
    "--enable-all-optimizations",
    "--enable-cpu-level=6",
    "--enable-pci",
    "--enable-cdrom",
    "--disable-docbook",
];

/// The emulator's binary, from the cache if it is there.
pub fn ensure(setup: &Setup) -> Result<PathBuf> {
    let dir = setup.cache.path(format!("bochs-{VERSION}-{:016x}", recipe_hash()));
    let binary = dir.join("bochs");
    let what = format!("{VERSION} with 5-level EPT");
    if binary.exists() {
        setup.cached("bochs", &what);
        return Ok(binary);
    }
    let lock = setup.cache.lock("bochs")?;
    if binary.exists() {
        return Ok(binary);
    }
    packages::ensure(setup, &packages::BOCHS_BUILD)?;
    let draft = lock.draft()?;
    setup.working("bochs", &what, "downloading the source");
    let at = |name: &str| draft.path().join(name);
    for name in ["apt", "tree", "result"] {
        fs::create_dir(at(name))?;
    }
    let tarball = at("bochs.tar.xz");
    fetch_source(&at("apt"), &tarball)
        .with_context(|| format!("cannot fetch the source of Bochs {VERSION} (Debian {SUITE})"))?;
    setup.working("bochs", &what, "building (two minutes)");
    build(&tarball, &at("tree")).context("cannot build Bochs")?;
    fs::copy(at("tree").join("bochs"), at("result").join("bochs"))?;
    draft.publish("result", &dir)?;
    Ok(binary)
}

/// Names a build by all that makes it.
fn recipe_hash() -> u64 {
    let mut hasher = DefaultHasher::new();
    (VERSION, PATCHES, CONFIGURE).hash(&mut hasher);
    hasher.finish()
}

/// Fetches the upstream tarball alone: some mirrors lack the rest of the source package.
fn fetch_source(apt: &Path, tarball: &Path) -> Result<()> {
    let root = Root::new(apt, SUITE, Kind::Source)?;
    let uris = root.uris(&["source", "bochs"])?;
    let Some(uri) = uris.iter().find(|uri| uri.file.contains(".orig.tar")) else {
        bail!("the archive lists no source tarball");
    };
    if !uri.file.starts_with(&format!("bochs_{VERSION}+")) {
        bail!("the archive has {}, and the patches are for {VERSION}", uri.file);
    }
    root.fetch(uri, tarball)
}

fn build(tarball: &Path, tree: &Path) -> Result<()> {
    let in_tree = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(tree);
        command
    };
    command::run(in_tree("tar").args(["--strip-components=1", "-xf"]).arg(tarball))?;
    for patch in PATCHES {
        fs::write(tree.join("lab.patch"), patch)?;
        command::run(in_tree("patch").args(["-p1", "--input=lab.patch"]))?;
    }
    command::run(in_tree("./configure").args(CONFIGURE))?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    command::run(in_tree("make").arg(format!("-j{jobs}")))?;
    command::run(in_tree("strip").arg("bochs"))?;
    Ok(())
}
