//! Distribution packages, installed by apt where something that they bring is missing.
//!
//! What counts is the file that is needed, not the package's name: a machine that has it from
//! elsewhere needs no package, and one without apt is told what to provide.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Setup;
use crate::command;

/// Packages that belong together, each with a file of it that is needed.
pub struct Group {
    /// As the output names it.
    pub name: &'static str,
    needs: &'static [(&'static str, &'static str)],
}

/// What boots a cell.
pub const LAB: Group = Group {
    name: "lab",
    needs: &[
        ("qemu-system-x86", "qemu-system-x86_64"),
        ("seabios", "/usr/share/seabios/bios-256k.bin"),
        ("busybox-static", crate::lab::BUSYBOX),
        ("bochsbios", crate::lab::BOCHS_BIOS),
        ("vgabios", crate::lab::VGA_BIOS),
        ("isolinux", crate::lab::ISOLINUX),
        ("syslinux-common", crate::lab::LDLINUX),
        ("xorriso", "xorriso"),
        ("xz-utils", "xz"),
    ],
};

/// What records logs, and packs them.
pub const RECORDERS: Group = Group {
    name: "recorders",
    needs: &[
        ("trace-cmd", "trace-cmd"),
        ("linux-perf", "perf"),
        ("gzip", "gzip"),
        ("xz-utils", "xz"),
        ("zstd", "zstd"),
    ],
};

/// What makes a Debian package.
pub const PACKAGE: Group = Group {
    name: "package",
    needs: &[
        ("dpkg", "dpkg-deb"),
        ("coreutils", "md5sum"),
        ("findutils", "find"),
        ("gzip", "gzip"),
        ("xz-utils", "xz"),
    ],
};

/// What tries one in a Debian of its own.
pub const BARE_ROOT: Group =
    Group { name: "bare root", needs: &[("debootstrap", "debootstrap"), ("coreutils", "chroot")] };

/// What tests look into a lab cell with.
pub const WITNESSES: Group =
    Group { name: "witnesses", needs: &[("bpftool", "bpftool"), ("util-linux", "setpriv")] };

/// What builds Bochs.
pub const BOCHS_BUILD: Group = Group {
    name: "bochs build",
    needs: &[
        ("gcc", "gcc"),
        ("g++", "g++"),
        ("make", "make"),
        ("patch", "patch"),
        ("xz-utils", "xz"),
        ("tar", "tar"),
    ],
};

/// What builds KVM's modules for Debian's 6.1; `dwarves` gives them BTF.
pub const KVM_BUILD: Group = Group {
    name: "kvm build",
    needs: &[
        ("gcc-12", "gcc-12"),
        ("make", "make"),
        ("patch", "patch"),
        ("dwarves", "pahole"),
        ("lz4", "lz4"),
        ("xz-utils", "xz"),
        ("tar", "tar"),
    ],
};

/// A Rust compiler with the source of `core`.
pub const BPF_COMPILER: Group = Group {
    name: "bpf compiler",
    needs: &[
        ("rustc-web", "/usr/bin/rustc"),
        ("cargo-web", "/usr/bin/cargo"),
        ("rust-web-src", "/usr/lib/rustlib/src/rust/library/core/src/lib.rs"),
    ],
};

/// What builds bpf-linker.
pub const BPF_LINKER_BUILD: Group = Group {
    name: "bpf-linker build",
    needs: &[
        ("gcc", "gcc"),
        ("g++", "g++"),
        ("llvm-22-dev", "/usr/lib/llvm-22/include/llvm-c/Core.h"),
        ("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
        ("libzstd-dev", "/usr/include/zstd.h"),
        ("zlib1g-dev", "/usr/include/zlib.h"),
    ],
};

/// Installs the packages of `group` whose file is missing.
pub fn ensure(setup: &Setup, group: &Group) -> Result<()> {
    let step = format!("packages: {}", group.name);
    let missing: Vec<_> = group.needs.iter().filter(|need| !is_there(need.1)).collect();
    if missing.is_empty() {
        let packages: Vec<&str> = group.needs.iter().map(|need| need.0).collect();
        setup.cached(&step, &packages.join(" "));
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.0).collect();
    if command::find("apt-get").is_none() {
        let list: Vec<String> =
            missing.iter().map(|(package, file)| format!("  {file} (Debian: {package})")).collect();
        bail!("this machine has no apt; install by hand:\n{}", list.join("\n"));
    }
    setup.working(&step, &packages.join(" "), "installing");
    let _lock = setup.cache.lock("packages")?;
    // Someone else's broken source fails the update, and need not be in the way of these.
    let _ = as_root(&["apt-get", "update"]);
    let wait = ["-o", "DPkg::Lock::Timeout=300"];
    let install = [&["apt-get", "install", "-y", "--no-install-recommends"], &wait[..]].concat();
    as_root(&[&install[..], &packages[..]].concat()).with_context(|| {
        format!("cannot install the packages for {}: {}", group.name, packages.join(" "))
    })?;
    match missing.iter().find(|need| !is_there(need.1)) {
        Some((package, file)) => bail!("{package} is installed and brought no {file}"),
        None => Ok(()),
    }
}

/// A path that exists, or a program in `PATH`.
fn is_there(need: &str) -> bool {
    if need.starts_with('/') { Path::new(need).exists() } else { command::find(need).is_some() }
}

fn as_root(words: &[&str]) -> Result<Vec<u8>> {
    let i_am_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let sudo: &[&str] = if i_am_root { &[] } else { &["sudo"] };
    // `env`, for sudo drops the caller's environment.
    let words = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive"], words].concat();
    command::run(Command::new(words[0]).args(&words[1..]))
}
