//! Kernels for the lab: Debian's `cloud` flavour from four suites.
//!
//! In the cache, `kernels/<major.minor>-<package version>/` holds a kernel, and the link
//! `kernels/<suite>` names the suite's current one. While the link is there, no archive is
//! asked, so a lab that worked once works offline.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::modules::{self, Module};
use super::sources::Kind;
use super::{Setup, apt::Root};
use crate::cache::Draft;
use crate::command;

/// The package whose dependency is a suite's current kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// A suite of Debian, and the kernel that it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debian {
    /// As the command line calls it. Sid moves on; the kernel's own release tells the truth.
    pub version: &'static str,
    /// Where it comes from.
    pub suite: &'static str,
}

/// The kernels of the lab, oldest first.
pub const DEBIAN: [Debian; 4] = [
    Debian { version: "5.10", suite: "bullseye" },
    Debian { version: "6.1", suite: "bookworm" },
    Debian { version: "6.12", suite: "trixie" },
    Debian { version: "7.2", suite: "sid" },
];

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    /// Trees with its modules. What a later one has takes the place of an earlier one's.
    pub modules: Vec<PathBuf>,
    /// `uname -r`
    pub release: String,
    /// Its configuration, where it is at hand.
    pub config: Option<Config>,
}

/// `kernel.json` beside a cached kernel.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    release: String,
    package_version: String,
    /// In load order.
    modules: Vec<String>,
}

impl Kernel {
    /// The modules that the lab wants of it, in load order.
    ///
    /// # Errors
    ///
    /// If one was built for another kernel: the lab's modprobe looks for modules by release, and
    /// this kernel may well refuse it.
    pub fn modules(&self) -> Result<Vec<Module>> {
        let modules = modules::collect(&self.modules, &modules::WANTED)?;
        for module in &modules {
            let file = module.file.display();
            match &module.release {
                Some(release) if *release != self.release => bail!(
                    "{file} was built for {release}, and the kernel is {}: build both again, or \
                     give the --modules that belong to it",
                    self.release
                ),
                Some(_) => {}
                None => bail!("{file} is no kernel module: it has no vermagic"),
            }
        }
        Ok(modules)
    }

    fn from_cache(dir: &Path) -> Result<Self> {
        Ok(Self {
            image: dir.join("vmlinuz"),
            modules: vec![dir.join("modules")],
            release: Description::read(dir)?.release,
            config: None,
        })
    }
}

impl Description {
    fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("kernel.json");
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text)
            .with_context(|| format!("cannot read {}: remove its directory", file.display()))
    }
}

/// The version of the package that the suite's cached kernel came in.
pub fn package_version(setup: &Setup, debian: Debian) -> Result<String> {
    let dir = setup.cache.path("kernels").join(debian.suite);
    Ok(Description::read(&dir)?.package_version)
}

/// The suite's kernel, from the cache if it is there.
pub fn ensure(setup: &Setup, debian: Debian) -> Result<Kernel> {
    let link = setup.cache.path("kernels").join(debian.suite);
    let cached = || Kernel::from_cache(&fs::canonicalize(&link)?);
    if let (false, Ok(kernel)) = (setup.refresh, cached()) {
        setup.cached("kernels", &title(debian, &kernel.release));
        return Ok(kernel);
    }
    let lock = setup.cache.lock(&format!("kernel-{}", debian.suite))?;
    if let (false, Ok(kernel)) = (setup.refresh, cached()) {
        return Ok(kernel);
    }
    let what = format!("{} ({})", debian.version, debian.suite);
    setup.working("kernels", &what, "asking the archive");
    let draft = lock.draft()?;
    make(setup, debian, &draft).with_context(|| {
        format!("cannot get the kernel of Debian {}; `cargo xtask setup` retries", debian.suite)
    })?;
    let kernel = cached()?;
    if !kernel.release.starts_with(&format!("{}.", debian.version)) {
        let (suite, release, version) = (debian.suite, &kernel.release, debian.version);
        eprintln!("setup: kernels: {suite} has moved on to {release}, taken in place of {version}");
    }
    Ok(kernel)
}

fn title(debian: Debian, release: &str) -> String {
    format!("{} ({}, {release})", debian.version, debian.suite)
}

/// Fetches the suite's kernel into the cache and points the suite's link at it.
fn make(setup: &Setup, debian: Debian, draft: &Draft) -> Result<()> {
    let at = |name: &str| draft.path().join(name);
    for dir in ["apt", "debs", "tree", "kernel"] {
        fs::create_dir(at(dir))?;
    }
    let root = Root::new(&at("apt"), debian.suite, Kind::Packages)?;
    let uris = root.uris(&["--no-install-recommends", "install", META_PACKAGE])?;
    let debs: Vec<(&str, &str)> = uris.iter().filter_map(|uri| kernel_deb(&uri.file)).collect();
    let Some((_, version)) = debs.first() else {
        bail!("{META_PACKAGE} in {} depends on no kernel package", debian.suite);
    };
    let release = debs.iter().find_map(|(package, _)| package.strip_prefix("linux-image-"));
    let release = release.context("no package linux-image-*")?;
    let major_minor = release.splitn(3, ['.', '-']).take(2).collect::<Vec<_>>().join(".");
    let name = format!("{major_minor}-{version}");
    let target = setup.cache.path("kernels").join(&name);

    if Kernel::from_cache(&target).is_ok() {
        setup.cached("kernels", &title(debian, release));
    } else {
        setup.working("kernels", &title(debian, release), "downloading");
        let packages: Vec<&str> = debs.iter().map(|(package, _)| *package).collect();
        root.download(&packages, &at("debs"))?;
        for deb in fs::read_dir(at("debs"))? {
            command::run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(at("tree")))?;
        }
        keep(&at("tree"), release, version, &at("kernel"))?;
        draft.publish("kernel", &target)?;
    }
    symlink(&name, at("link"))?;
    draft.publish("link", &setup.cache.path("kernels").join(debian.suite))
}

/// Copies what the lab needs of an unpacked kernel.
fn keep(tree: &Path, release: &str, version: &str, into: &Path) -> Result<()> {
    let image = tree.join("boot").join(format!("vmlinuz-{release}"));
    let image = Some(image).filter(|path| path.exists()).unwrap_or_else(|| {
        // Where the files under /boot are made at installation.
        tree.join("usr/lib/modules").join(release).join("vmlinuz")
    });
    fs::copy(&image, into.join("vmlinuz"))
        .with_context(|| format!("the kernel package has no {}", image.display()))?;
    let modules = modules::collect(&[tree.to_owned()], &modules::WANTED)?;
    modules::write(&modules, &into.join("modules"))?;
    let description = Description {
        release: release.to_owned(),
        package_version: version.to_owned(),
        modules: modules.into_iter().map(|module| module.name).collect(),
    };
    let json = serde_json::to_string_pretty(&description)?;
    Ok(fs::write(into.join("kernel.json"), json + "\n")?)
}

/// `(package, version)` of a file that is part of the kernel itself. Since 7.x the image and the
/// modules come in packages of their own.
fn kernel_deb(file: &str) -> Option<(&str, &str)> {
    let (package, rest) = file.strip_suffix(".deb")?.split_once('_')?;
    let (version, _arch) = rest.rsplit_once('_')?;
    let is_kernel = ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|prefix| {
        package
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    is_kernel.then_some((package, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_debs_are_told_from_the_rest() {
        let image = "linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb";
        let expected = ("linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1");
        assert_eq!(kernel_deb(image), Some(expected));
        assert!(kernel_deb("linux-modules-7.2.13+deb14-cloud-amd64_7.2.13-1_amd64.deb").is_some());
        assert_eq!(kernel_deb("linux-image-cloud-amd64_6.12.117-1_amd64.deb"), None);
        assert_eq!(kernel_deb("linux-base_4.12.1_all.deb"), None);
    }
}
