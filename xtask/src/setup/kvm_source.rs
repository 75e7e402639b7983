//! The source of the KVM that Debian's kernel 6.1 has, laid out so that its modules are built
//! without the rest of the kernel: within Debian's headers, whose symbols' versions they must have.
//!
//! `make -C DIR` then makes `kvm.ko`, `kvm-intel.ko` and `kvm-amd.ko` in `DIR/arch/x86/kvm`, for
//! `cargo xtask lab --kernel 6.1 --modules DIR`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::apt::Root;
use super::kernels::{self, DEBIAN, Debian};
use super::sources::Kind;
use super::{Setup, packages};
use crate::command;

/// The kernel whose KVM it is.
pub const KERNEL: Debian = DEBIAN[1];

/// Taken from the source: KVM, and what gets the ELF file, whose BTF modules refer to, out of a
/// bzImage.
const FROM_SOURCE: [&str; 3] = ["arch/x86/kvm", "virt", "scripts/extract-vmlinux"];

/// GNU make prefers it to the kernel's own Makefile. KVM has no sets of BTF ids to resolve.
const GNUMAKEFILE: &str = "\
modules:
\t$(MAKE) -C build M=$(CURDIR)/arch/x86/kvm RESOLVE_BTFIDS=true modules
";

/// `cargo xtask kvm-source`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put it; not there yet, or empty
    #[arg(value_name = "DIR")]
    into: PathBuf,
}

/// Lays it out.
pub fn main(args: &Args) -> Result<ExitCode> {
    copy(&Setup::within_another_verb()?, &args.into)?;
    let into = args.into.display();
    println!("make -C {into} -j$(nproc)");
    println!("cargo xtask lab --cpu svm --kernel {} --modules {into}", KERNEL.version);
    Ok(ExitCode::SUCCESS)
}

/// Lays it out in `into`, with what builds it installed.
pub fn copy(setup: &Setup, into: &Path) -> Result<()> {
    packages::ensure(setup, &packages::KVM_BUILD)?;
    let source = ensure(setup)?;
    if fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", into.display());
    }
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    command::run(Command::new("cp").arg("-a").arg(source.join(".")).arg(into))?;
    Ok(())
}

/// The tree, from the cache if it is there.
fn ensure(setup: &Setup) -> Result<PathBuf> {
    let kernel = kernels::ensure(setup, KERNEL)?;
    let version = kernels::package_version(setup, KERNEL)?;
    let tree = setup.cache.path(format!("kvm-source-{version}"));
    if tree.exists() {
        setup.cached("kvm source", &version);
        return Ok(tree);
    }
    let lock = setup.cache.lock("kvm-source")?;
    if tree.exists() {
        return Ok(tree);
    }
    setup.working("kvm source", &version, "downloading 150 MB");
    let draft = lock.draft()?;
    let at = |name: &str| draft.path().join(name);
    for dir in ["apt", "debs"] {
        fs::create_dir(at(dir))?;
    }
    fetch(&at("apt"), &kernel.release, &version, &at("debs")).with_context(|| {
        format!(
            "cannot fetch the source of Debian's {version}; if the archive has moved on, \
             `cargo xtask setup --refresh` follows"
        )
    })?;
    for deb in fs::read_dir(at("debs"))? {
        let mut unpack = Command::new("dpkg-deb");
        command::run(unpack.arg("-x").arg(deb?.path()).arg(at("all")))?;
    }
    put_together(&at("all"), &kernel.release, &at("tree"))?;
    let mut extract = Command::new(at("tree").join("scripts/extract-vmlinux"));
    let vmlinux = command::run(extract.arg(&kernel.image)).context("cannot get vmlinux")?;
    fs::write(at("tree").join("build/vmlinux"), vmlinux)?;
    draft.publish("tree", &tree)?;
    Ok(tree)
}

fn fetch(apt: &Path, release: &str, version: &str, debs: &Path) -> Result<()> {
    let root = Root::new(apt, KERNEL.suite, Kind::Packages)?;
    let series = KERNEL.version;
    let names = [
        format!("linux-source-{series}"),
        format!("linux-kbuild-{series}"),
        format!("linux-headers-{release}"),
        format!("linux-headers-{}", common(release)?),
    ];
    let exactly = names.map(|name| format!("{name}={version}"));
    root.download(&exactly.each_ref().map(String::as_str), debs)
}

/// What the headers of all flavours share: `6.1.0-9-cloud-amd64` is `6.1.0-9-common`.
fn common(release: &str) -> Result<String> {
    let abi = release.strip_suffix("-cloud-amd64").context("no release of Debian's")?;
    Ok(format!("{abi}-common"))
}

/// Makes one tree, which can be moved, of what the packages spread over `/usr`.
fn put_together(all: &Path, release: &str, tree: &Path) -> Result<()> {
    let headers = |name: &str| all.join("usr/src").join(format!("linux-headers-{name}"));
    fs::rename(headers(&common(release)?), tree)?;
    fs::rename(headers(release), tree.join("build"))?;
    for name in ["scripts", "tools"] {
        let kbuild = all.join(format!("usr/lib/linux-kbuild-{}", KERNEL.version));
        fs::remove_file(tree.join(name))?;
        fs::rename(kbuild.join(name), tree.join(name))?;
        let link = tree.join("build").join(name);
        fs::remove_file(&link)?;
        std::os::unix::fs::symlink(Path::new("..").join(name), link)?;
    }
    fs::write(tree.join("build/Makefile"), "include ../Makefile\n")?;
    fs::write(tree.join("GNUmakefile"), GNUMAKEFILE)?;
    for arch in fs::read_dir(tree.join("arch"))?.flatten() {
        if arch.file_name() != "x86" && arch.file_type()?.is_dir() {
            fs::remove_dir_all(arch.path())?;
        }
    }
    let source = format!("linux-source-{}", KERNEL.version);
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(all.join(format!("usr/src/{source}.tar.xz"))).arg("-C").arg(tree);
    tar.arg("--strip-components=1").args(FROM_SOURCE.map(|part| format!("{source}/{part}")));
    command::run(&mut tar)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_share_headers() {
        assert_eq!(common("6.1.0-56-cloud-amd64").ok().as_deref(), Some("6.1.0-56-common"));
        assert!(common("6.1.0").is_err());
    }
}
