//! A kernel of the user's: an image or a package, the modules that belong to it, and what the lab
//! would miss in it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Setup;
use super::config::{Config, Lack};
use super::kernels::{DEBIAN, Kernel};
use super::modules;
use crate::command;

/// What a Debian package begins with, as every `ar` archive does.
const PACKAGE: &[u8] = b"!<arch>\n";
const ELF: &[u8] = b"\x7fELF";

/// The kernel in `given`, a bzImage or a package; `more` has modules, see [`tree`].
///
/// # Errors
///
/// If `given` holds no kernel, or `more` is neither directory nor package.
pub fn open(setup: &Setup, given: &Path, more: Option<&Path>) -> Result<Kernel> {
    let known = DEBIAN.map(|debian| debian.version).join(", ");
    let bytes = fs::read(given).with_context(|| {
        format!("cannot read kernel {} (of its own, the lab has {known})", given.display())
    })?;
    let (image, bytes, mut trees) = if bytes.starts_with(PACKAGE) {
        let dir = unpacked(setup, given)?;
        let image = dir.join("vmlinuz");
        let bytes = fs::read(&image).with_context(|| {
            format!(
                "{} holds no kernel: its package is linux-image-RELEASE, since Linux 7 \
                 linux-binary-RELEASE (with `--modules linux-modules-RELEASE...deb`)",
                given.display()
            )
        })?;
        (image, bytes, vec![dir.join("modules")])
    } else {
        // Absolute, for the emulator starts in another directory.
        (fs::canonicalize(given)?, bytes, Vec::new())
    };
    let release = release(&bytes).with_context(|| {
        let what = if bytes.starts_with(ELF) { " an ELF file, as vmlinux is, and" } else { "" };
        format!("{} is{what} no x86 bzImage (arch/x86/boot/bzImage)", given.display())
    })?;
    trees.extend(more.map(|more| tree(setup, more, &release)).transpose()?);
    let config = Config::find(&image, &release);
    Ok(Kernel { image, modules: trees, release, config })
}

/// `kernel` with the modules in `given` in the place of its own.
///
/// # Errors
///
/// If there is no KVM among them: the verdict would be about another one.
pub fn patched(setup: &Setup, mut kernel: Kernel, given: &Path) -> Result<Kernel> {
    let tree = [tree(setup, given, &kernel.release)?];
    if modules::collect(&tree, &["kvm", "kvm_intel", "kvm_amd"])?.is_empty() {
        bail!("no module of KVM under --modules {}: is it built?", given.display());
    }
    kernel.modules.extend(tree);
    Ok(kernel)
}

/// The modules of `release` in `given`: a package, or a directory with modules somewhere under it,
/// such as the tree where a kernel was built, or what `make modules_install` has written.
fn tree(setup: &Setup, given: &Path, release: &str) -> Result<PathBuf> {
    if given.is_file() {
        return Ok(unpacked(setup, given)?.join("modules"));
    }
    if !given.is_dir() {
        bail!("--modules {} is neither a directory nor a package", given.display());
    }
    // Where there may be other kernels' beside them.
    let of_release =
        ["lib/modules", "usr/lib/modules", ""].map(|dir| given.join(dir).join(release));
    Ok(of_release.into_iter().find(|dir| dir.is_dir()).unwrap_or_else(|| given.to_owned()))
}

/// Holds `kernel` against what the lab needs of one that is to bring the module `vendor`. Returned
/// is what can do without, each with what is lost.
///
/// # Errors
///
/// If it is known beforehand that no verdict will come of it.
pub fn check(kernel: &Kernel, vendor: &str) -> Result<Vec<String>> {
    let modules = kernel.modules()?;
    let has_vendor = modules.iter().any(|module| module.name == vendor);
    let Some(config) = &kernel.config else {
        if let (Some(tree), false) = (kernel.modules.last(), has_vendor) {
            bail!("no {vendor} under {} (if it is built in, leave out --modules)", tree.display());
        }
        return Ok(Vec::new());
    };
    let path = config.path.display();
    let (required, wanted): (Vec<_>, Vec<_>) =
        config.lacks(vendor).into_iter().partition(|lack| lack.is_required);
    if !required.is_empty() {
        let lines = required.iter().map(|lack| format!("\n  {}: {}", lack.option, lack.loss));
        bail!(
            "{path} lacks what the lab needs, for without{}\nxtask/lab/kernel.config has all of \
             it, for scripts/kconfig/merge_config.sh",
            lines.collect::<String>()
        );
    }
    if config.value(&format!("CONFIG_{}", vendor.to_uppercase())) == Some("m") && !has_vendor {
        bail!(
            "{vendor} is a module by {path}, and is not there: give --modules the tree where the \
             kernel was built, or what `make modules_install INSTALL_MOD_PATH=...` has written"
        );
    }
    let note = |lack: &Lack| format!("no {} in {path}: {}", lack.option, lack.loss);
    Ok(wanted.iter().map(note).collect())
}

/// What the lab needs of a package: `vmlinuz`, `config`, `modules`, each if it is there. Kept with
/// the remains of runs, which go after a day.
fn unpacked(setup: &Setup, package: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot unpack {}", package.display());
    let meta = fs::metadata(package).with_context(cannot)?;
    let mut hasher = DefaultHasher::new();
    (fs::canonicalize(package)?, meta.len(), meta.modified()?).hash(&mut hasher);
    let dir = setup.cache.path("run").join(format!("package-{:016x}", hasher.finish()));
    let lock = setup.cache.lock("package")?;
    if dir.exists() {
        return Ok(dir);
    }
    let draft = lock.draft()?;
    let [tree, kept] = ["tree", "kept"].map(|name| draft.path().join(name));
    fs::create_dir(&kept)?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))
        .with_context(cannot)?;
    for name in ["vmlinuz", "config"] {
        if let Some(file) = installed(&tree, name) {
            fs::copy(&file, kept.join(name)).with_context(cannot)?;
        }
    }
    let modules = modules::collect(&[tree], &modules::WANTED).with_context(cannot)?;
    modules::write(&modules, &kept.join("modules"))?;
    draft.publish("kept", &dir)?;
    Ok(dir)
}

/// The file `boot/NAME-RELEASE`, or `NAME` beside the modules.
fn installed(tree: &Path, name: &str) -> Option<PathBuf> {
    let list = |dir: &str| fs::read_dir(tree.join(dir)).into_iter().flatten().flatten();
    let in_boot = list("boot").map(|entry| entry.path()).filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    });
    let beside = ["lib/modules", "usr/lib/modules"].into_iter().flat_map(list);
    in_boot.chain(beside.map(|entry| entry.path().join(name))).find(|path| path.is_file())
}

/// `uname -r` of a bzImage: the boot protocol's `kernel_version`, a pointer less 0x200.
fn release(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(usize::from(pointer) + 0x200..)?;
    let text = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with modules of these releases, whose configuration lacks nothing but `off`.
    fn kernel(top: &Path, modules: &[(&str, &str)], off: Option<&str>) -> Result<Kernel> {
        for (name, release) in modules {
            fs::write(top.join(name).with_extension("ko"), format!("\0vermagic={release} \0"))?;
        }
        let image = top.join("vmlinuz");
        if let Some(off) = off {
            let config = include_str!("../../lab/kernel.config").replace(off, "");
            fs::write(image.with_file_name("config"), config)?;
        }
        let config = Config::find(&image, "6.1.0");
        Ok(Kernel { image, modules: vec![top.to_owned()], release: "6.1.0".to_owned(), config })
    }

    fn said(modules: &[(&str, &str)], off: Option<&str>) -> String {
        let top = tempfile::tempdir().expect("a directory");
        let kernel = kernel(top.path(), modules, off).expect("a kernel");
        match check(&kernel, "kvm_amd") {
            Ok(notes) => notes.join("\n"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn modules_must_be_there_and_the_kernels_own() {
        let whole = [("kvm", "6.1.0"), ("kvm_amd", "6.1.0")];
        assert_eq!(said(&whole, None), "");
        assert!(said(&whole[..1], None).contains("no kvm_amd under"));
        let other = said(&[("kvm", "6.1.0"), ("kvm_amd", "6.1.1")], None);
        assert!(other.contains("was built for 6.1.1, and the kernel is 6.1.0"), "{other}");
    }

    #[test]
    fn what_the_configuration_lacks_is_named() {
        // Built in, so there are no modules.
        assert_eq!(said(&[], Some("# nothing")), "");
        let silent = said(&[], Some("CONFIG_SERIAL_8250_CONSOLE=y"));
        assert!(
            silent.contains("CONFIG_SERIAL_8250_CONSOLE: its console stays silent"),
            "{silent}"
        );
        let unseen = said(&[], Some("CONFIG_DEBUG_INFO_BTF=y"));
        assert!(
            unseen.contains("CONFIG_DEBUG_INFO_BTF: nothing of KVM can be watched"),
            "{unseen}"
        );
    }

    fn image(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        image
    }

    #[test]
    fn release_is_read_from_the_boot_header() {
        assert_eq!(release(&image("6.1.0-9-cloud (a@b) ")).as_deref(), Some("6.1.0-9-cloud"));
        assert_eq!(release(b"\x7fELF"), None);
    }

    /// A package with these files.
    fn package(top: &Path, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let tree = top.join(name);
        let control = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: lab\n");
        let control = format!("{control}Description: a test\n");
        for (path, content) in files.iter().chain(&[("DEBIAN/control", control.as_bytes())]) {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().context("a directory")?)?;
            fs::write(path, content)?;
        }
        let deb = top.join(format!("{name}.deb"));
        command::run(Command::new("dpkg-deb").arg("--build").arg(tree).arg(&deb))?;
        Ok(deb)
    }

    #[test]
    fn packages_are_taken_apart() -> Result<()> {
        let setup = Setup::within_another_verb()?;
        let top = tempfile::tempdir()?;
        let image = image("6.9-own ");
        let kvm = b"\0vermagic=6.9-own SMP \0";
        // As `make bindeb-pkg` has it, and as Debian does since Linux 7.
        let whole = [
            ("boot/vmlinuz-6.9-own", &image[..]),
            ("boot/config-6.9-own", b"\nCONFIG_KVM_AMD=m\n"),
            ("lib/modules/6.9-own/kernel/arch/x86/kvm/kvm.ko", kvm),
        ];
        let whole = open(&setup, &package(top.path(), "whole", &whole)?, None)?;
        let parts = [
            ("usr/lib/modules/6.9-own/vmlinuz", &image[..]),
            ("usr/lib/modules/6.9-own/kernel/kvm.ko", kvm),
        ];
        let binary = package(top.path(), "binary", &parts[..1])?;
        let modules = package(top.path(), "modules", &parts[1..])?;
        let split = open(&setup, &binary, Some(&modules))?;
        for kernel in [&whole, &split] {
            assert_eq!(kernel.release, "6.9-own");
            let names: Vec<_> = kernel.modules()?.into_iter().map(|found| found.name).collect();
            assert_eq!(names, ["kvm"]);
        }
        assert_eq!(
            whole.config.and_then(|has| has.value("CONFIG_KVM_AMD").map(str::to_owned)).as_deref(),
            Some("m")
        );
        let error = open(&setup, &modules, None).err().map(|error| format!("{error:#}"));
        assert!(error.is_some_and(|error| error.contains("holds no kernel")));
        for deb in [&binary, &modules, &top.path().join("whole.deb")] {
            fs::remove_dir_all(unpacked(&setup, deb)?)?;
        }
        Ok(())
    }
}
