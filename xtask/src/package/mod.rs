//! `cargo xtask package`: the static program, and a Debian package with it.
//!
//! The same commit makes the same bytes with the same toolchain: all times in the package are the
//! commit's, or `SOURCE_DATE_EPOCH`.

mod bare;
mod stage;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::command;
use crate::lab::product;
use crate::setup::{Setup, packages};

/// `cargo xtask package`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also install it into a bare Debian, try it there, and remove it again; as root
    #[arg(long = "try")]
    is_tried: bool,
}

/// The static program, as a release has it: `.ci/check.sh` downloads it by this name.
const PROGRAM: &str = "ept-trace-x86_64-linux";

/// What a package is made of.
#[derive(Debug)]
struct Package {
    /// Of the program, with a revision.
    version: String,
    /// When it was made, in seconds since 1970.
    epoch: u64,
    /// The static program.
    program: PathBuf,
}

/// Builds all, and tries it if asked to.
pub fn main(args: &Args) -> Result<ExitCode> {
    let setup = Setup::within_another_verb()?;
    packages::ensure(&setup, &packages::PACKAGE)?;
    let package = Package {
        version: format!("{}-1", env!("CARGO_PKG_VERSION")),
        epoch: epoch()?,
        program: product::build(&setup)?,
    };
    let dir = command::repository().join("target/package");
    let tree = dir.join("tree");
    let _ = fs::remove_dir_all(&tree);
    stage::stage(&package, &tree)?;
    let deb = dir.join(format!("ept-trace_{}_amd64.deb", package.version));
    build(&package, &tree, &deb)?;
    let program = dir.join(PROGRAM);
    fs::copy(&package.program, &program).context("cannot copy the program")?;
    let mut sum = Command::new("sha256sum");
    let sum = command::run(sum.arg(PROGRAM).current_dir(&dir))?;
    let checksum = dir.join(format!("{PROGRAM}.sha256"));
    fs::write(&checksum, sum).context("cannot write the checksum")?;
    for made in [&program, &checksum, &deb] {
        println!("{}", made.display());
    }
    if args.is_tried {
        bare::try_in_bare_root(&setup, &package, &deb)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build(package: &Package, tree: &Path, deb: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    // dpkg takes this for the time of all that is newer.
    dpkg.env("SOURCE_DATE_EPOCH", package.epoch.to_string());
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree).arg(deb);
    command::run(&mut dpkg).map(drop)
}

/// The time that stands in the package.
fn epoch() -> Result<u64> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return given.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(command::repository());
    let time = command::run(&mut git).context("without git, set SOURCE_DATE_EPOCH")?;
    String::from_utf8_lossy(&time).trim().parse().context("the time of the last commit")
}
