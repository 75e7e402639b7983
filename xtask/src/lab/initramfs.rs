//! The initramfs of a cell: busybox, the modules, the product, and what the user adds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc;

use super::{BUSYBOX, Cell, Options};
use crate::setup::kernels::Kernel;
use crate::setup::modules;

const INIT: &str = include_str!("../../lab/init.sh");
/// What a command may use where the machine may be poked.
const POKES: [(&str, &str); 3] = [
    ("bin/named", include_str!("../../lab/named.sh")),
    ("bin/poke", include_str!("../../lab/poke.sh")),
    ("bin/touched", include_str!("../../lab/touched.sh")),
];

const DIRECTORIES: [&str; 11] =
    ["add", "bin", "dev", "lib", "lib/modules", "out", "proc", "root", "sys", "tmp", "usr"];

/// The initramfs of `cell`.
pub fn build(cell: &Cell, kernel: &Kernel, options: &Options, nonce: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in DIRECTORIES {
        archive.add(dir, Kind::Directory, &[])?;
    }
    // What the kernel opens for init before there is a devtmpfs.
    archive.add("dev/console", Kind::Console, &[])?;
    archive.add("init", Kind::Program, INIT.as_bytes())?;
    archive.add("bin/busybox", Kind::Program, &read(Path::new(BUSYBOX))?)?;
    // For the first line of the init script, which has busybox make all other links.
    archive.add("bin/sh", Kind::Link, b"busybox")?;

    if options.pokes {
        for (name, script) in POKES {
            archive.add(name, Kind::Program, script.as_bytes())?;
        }
    }

    let modules = kernel.modules()?;
    let dir = format!("lib/modules/{}", kernel.release);
    archive.add(&dir, Kind::Directory, &[])?;
    for module in &modules {
        archive.add(&format!("{dir}/{}.ko", module.name), Kind::File, &module.elf)?;
    }
    let dep = modules::modules_dep(&modules);
    archive.add(&format!("{dir}/modules.dep"), Kind::File, dep.as_bytes())?;

    if let Some(product) = &options.product {
        archive.add("bin/ept-trace", Kind::Program, &read(product)?)?;
    }
    for file in &options.add {
        let name = file.file_name().with_context(|| format!("no file name: {}", file.display()))?;
        let meta = fs::metadata(file).with_context(|| format!("cannot add {}", file.display()))?;
        let is_program = meta.permissions().mode() & 0o111 != 0;
        let kind = if is_program { Kind::Program } else { Kind::File };
        archive.add(&format!("add/{}", name.to_string_lossy()), kind, &read(file)?)?;
    }
    for (name, content) in &options.files {
        archive.add(&format!("add/{name}"), Kind::File, content)?;
    }
    archive.add("lab.conf", Kind::File, conf(cell, options, nonce).as_bytes())?;
    archive.add("cmd", Kind::File, script(&options.command).as_bytes())?;
    archive.finish()
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What the guest's scripts ask of their caller.
fn conf(cell: &Cell, options: &Options, nonce: &str) -> String {
    let kvm = if options.load_kvm { cell.cpu.module() } else { "" };
    // By the last, results tell that they are of the lab.
    format!("NONCE={nonce}\nMODULES='msr {kvm}'\nexport EPT_TRACE_LAB='{}'\n", cell.cpu.name())
}

/// The command as a script, every word quoted.
fn script(command: &[String]) -> String {
    let quoted = command.iter().map(|word| format!(" '{}'", word.replace('\'', r"'\''")));
    format!("exec{}\n", quoted.collect::<String>())
}

#[derive(Clone, Copy)]
enum Kind {
    Directory,
    File,
    Program,
    /// A symbolic link; its content is where it points.
    Link,
    /// The character device 5:1.
    Console,
}

impl Kind {
    fn mode(self) -> u32 {
        match self {
            Self::Directory => 0o040_755,
            Self::File => 0o100_644,
            Self::Program => 0o100_755,
            Self::Link => 0o120_777,
            Self::Console => 0o020_600,
        }
    }
}

/// A cpio archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: Kind, content: &[u8]) -> Result<()> {
        self.count += 1;
        let mut entry = newc::Builder::new(name).ino(self.count).nlink(1).mode(kind.mode());
        if let Kind::Console = kind {
            entry = entry.rdev_major(5).rdev_minor(1);
        }
        let size = u32::try_from(content.len()).context("a file of 4 GiB or more")?;
        let mut writer = entry.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(newc::trailer(self.bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_are_quoted() {
        let words = ["sh", "-c", "echo 'a  b' $HOME"].map(str::to_owned);
        assert_eq!(script(&words), "exec 'sh' '-c' 'echo '\\''a  b'\\'' $HOME'\n");
    }
}
