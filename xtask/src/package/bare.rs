//! Tries the package where nothing else is: in a Debian that has just been made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::Package;
use crate::command;
use crate::setup::apt::codename;
use crate::setup::{Setup, packages};

/// What people have who run services, read manuals and complete command lines.
const EXTRAS: &str = "systemd,man-db,bash-completion,zsh,fish";

/// What must hold in the bare root while the package is installed, each with its name. The service
/// is not enabled, and nothing is said on the way.
const TRIALS: [(&str, &str); 7] = [
    ("the program runs", "ept-trace --version | grep -qx \"ept-trace $VERSION\""),
    ("it explains, as anybody", "setpriv --reuid 65534 ept-trace explain EPT103 | grep -q EPT103"),
    (
        "its manual pages are found",
        "for page in ept-trace ept-trace-watch ept-trace-analyze; do \
      man --warnings -P cat $page | grep -q 'ept-trace' || exit; done",
    ),
    (
        "bash completes",
        "bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader ept-trace; \
         completer=$(complete -p ept-trace | sed \"s/.*-F \\([^ ]*\\).*/\\1/\"); \
         COMP_WORDS=(ept-trace an); COMP_CWORD=1; $completer ept-trace an ept-trace; \
         test \"${COMPREPLY[*]}\" = analyze'",
    ),
    (
        "zsh completes",
        "zsh -fc 'autoload -U compinit; compinit -D -u; test \
      \"$_comps[ept-trace]\" = _ept-trace; autoload +X _ept-trace'",
    ),
    ("fish completes", "test \"$(fish -c 'complete -C \"ept-trace an\"' | cut -f1)\" = analyze"),
    (
        "the service is there, and not enabled",
        "test -f /usr/lib/systemd/system/ept-trace.service \
      && ! find /etc/systemd -name 'ept-trace*' | grep -q .",
    ),
];

/// Installs, tries, and purges.
pub fn try_in_bare_root(setup: &Setup, package: &Package, deb: &Path) -> Result<()> {
    packages::ensure(setup, &packages::BARE_ROOT)?;
    let root = Root::make(setup)?;
    let before = root.listing()?;
    fs::copy(deb, root.dir.join("tmp/ept-trace.deb")).context("cannot copy the package")?;
    root.sh("dpkg --install /tmp/ept-trace.deb")?;
    for (name, script) in TRIALS {
        let version = package.version.trim_end_matches("-1");
        root.sh(&format!("VERSION={version}; {script}")).with_context(|| name.to_owned())?;
        println!("bare root: {name}");
    }
    // What an administrator may have done.
    root.sh("systemctl enable ept-trace.service")?;
    root.sh("dpkg --purge ept-trace; rm /tmp/ept-trace.deb; rm -rf /root/.cache /root/.local \
             /root/.config /root/.zcompdump")?;
    let after = root.listing()?;
    let left: Vec<_> = after.iter().filter(|file| !before.contains(*file)).collect();
    ensure!(left.is_empty(), "the package leaves behind: {left:?}");
    println!("bare root: nothing is left of it");
    Ok(())
}

/// A Debian in a directory, which is removed again.
struct Root {
    dir: PathBuf,
}

impl Root {
    fn make(setup: &Setup) -> Result<Self> {
        let dir = setup.cache.path("bare-root");
        let root = Self { dir };
        let _ = fs::remove_dir_all(&root.dir);
        setup.working("bare root", "debootstrap", "making a Debian");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "--include", EXTRAS, &codename()?]);
        command::run(debootstrap.arg(&root.dir).arg(mirror()?)).context("as root?")?;
        Ok(root)
    }

    fn sh(&self, script: &str) -> Result<Vec<u8>> {
        let mut chroot = Command::new("chroot");
        chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        command::run(chroot.arg(&self.dir).args(["sh", "-ec", script]))
    }

    /// Everything in it but what dpkg itself and the index of manual pages keep.
    fn listing(&self) -> Result<Vec<String>> {
        let list =
            command::run(Command::new("find").arg(&self.dir).args(["-xdev", "-printf", "/%P\n"]))?;
        let is_kept = |path: &&str| {
            !["/var/lib/dpkg/", "/var/cache/man/", "/var/log/"]
                .iter()
                .any(|at| path.starts_with(at))
        };
        Ok(String::from_utf8_lossy(&list).lines().filter(is_kept).map(str::to_owned).collect())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Where this machine's apt has Debian from.
fn mirror() -> Result<String> {
    let uris = command::run(Command::new("apt-get").args(["--print-uris", "download", "dpkg"]))?;
    let uris = String::from_utf8_lossy(&uris);
    let uri = uris.split('\'').find_map(|word| word.split_once("/pool/"));
    match uri {
        Some((mirror, _)) => Ok(mirror.to_owned()),
        None => bail!("apt does not tell where it has dpkg from; try `apt-get update`"),
    }
}
