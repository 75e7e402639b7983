//! Kernel modules: found in a tree, unpacked, and put in the order in which they load.

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use memchr::memmem;
use object::build::elf::Builder;

use crate::command;

/// The modules that the lab wants of a kernel; what a kernel has built in is not in its tree.
pub const WANTED: [&str; 5] = ["irqbypass", "kvm", "kvm_intel", "kvm_amd", "msr"];

/// The end of a signed module.
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// A module, unpacked.
#[derive(Debug, Clone)]
pub struct Module {
    /// With underscores, as the kernel calls it.
    pub name: String,
    /// The names of what must be loaded before.
    pub depends: Vec<String>,
    /// The kernel that it was built for, if it says so.
    pub release: Option<String>,
    /// Where it was found.
    pub file: PathBuf,
    /// The ELF file.
    pub elf: Vec<u8>,
}

/// Finds `wanted` and all that they depend on under `trees`, in load order. What a later tree has
/// takes the place of an earlier one's.
pub fn collect(trees: &[PathBuf], wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    for tree in trees {
        let mut found = BTreeMap::new();
        find(tree, &mut found).with_context(|| format!("cannot read {}", tree.display()))?;
        files.append(&mut found);
    }
    let mut modules = Vec::new();
    for name in wanted {
        add(name, &files, &mut modules)?;
    }
    Ok(modules)
}

/// Puts `modules` into the new directory `dir`, unpacked.
pub fn write(modules: &[Module], dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    for module in modules {
        fs::write(dir.join(format!("{}.ko", module.name)), &module.elf)?;
    }
    Ok(())
}

/// `modules.dep`, as depmod writes it: a module, then all that it needs, nearest first.
pub fn modules_dep(modules: &[Module]) -> String {
    let line = |module: &Module| {
        let mut needs = Vec::new();
        closure(module, modules, &mut needs);
        let needs = needs.iter().rev().map(|name| format!("{name}.ko"));
        let line: Vec<String> = iter::once(format!("{}.ko:", module.name)).chain(needs).collect();
        line.join(" ") + "\n"
    };
    modules.iter().map(line).collect()
}

/// Appends what `module` needs to `needs`, in load order.
fn closure(module: &Module, modules: &[Module], needs: &mut Vec<String>) {
    for name in &module.depends {
        let known = modules.iter().find(|other| other.name == *name);
        if let (Some(other), false) = (known, needs.contains(name)) {
            closure(other, modules, needs);
            needs.push(name.clone());
        }
    }
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, modules: &mut Vec<Module>) -> Result<()> {
    let is_loaded = modules.iter().any(|module| module.name == name);
    let (false, Some(file)) = (is_loaded, files.get(name)) else {
        return Ok(());
    };
    let mut elf = unpack(file).with_context(|| format!("cannot unpack {}", file.display()))?;
    strip_signature(&mut elf);
    if memmem::find(&elf, b".debug_info").is_some() {
        elf = without_debug_info(&elf)
            .with_context(|| format!("{} is no sound ELF file", file.display()))?;
    }
    let depends = depends(&elf);
    for name in &depends {
        add(name, files, modules)?;
    }
    let (name, release) = (name.to_owned(), release(&elf));
    modules.push(Module { name, depends, release, file: file.clone(), elf });
    Ok(())
}

/// Maps every module's name under `dir` to its file. The tree where a kernel was built may have
/// copies of them, made for packages, farther down.
fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
            let depth = |path: &Path| path.components().count();
            if files.get(&name).is_none_or(|other| depth(&path) < depth(other)) {
                files.insert(name, path);
            }
        }
    }
    Ok(())
}

/// `kvm-intel.ko.xz` is `kvm_intel`; what is no module has no name.
fn module_name(file: &str) -> Option<String> {
    let (name, packing) = file.split_once(".ko")?;
    matches!(packing, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

fn unpack(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let unpacker = match file.extension().and_then(|ext| ext.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(bytes),
    };
    command::filter(Command::new(unpacker).arg("-dc"), &bytes)
}

/// Cuts off what `sign-file` appended: the signature, a header of 12 bytes that ends with its size,
/// and [`SIGNED`]. Debian's kernels do not insist on one, and to check it takes Bochs 5 seconds.
fn strip_signature(elf: &mut Vec<u8>) {
    let size = |elf: &[u8]| {
        let (_, size) = elf.strip_suffix(SIGNED)?.split_last_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        elf.len().checked_sub(SIGNED.len() + 12 + size)
    };
    if let Some(size) = size(elf) {
        elf.truncate(size);
    }
}

/// Leaves out what only a debugger reads, nine tenths of a module as it was built. BTF stays.
fn without_debug_info(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete =
            [&b".debug_"[..], b".rela.debug_"].iter().any(|start| name.starts_with(start));
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// The field `depends` of `.modinfo`.
fn depends(elf: &[u8]) -> Vec<String> {
    let names = modinfo(elf, b"depends=").unwrap_or_default().replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The first word of the field `vermagic`.
fn release(elf: &[u8]) -> Option<String> {
    modinfo(elf, b"vermagic=")?.split(' ').next().map(str::to_owned)
}

/// A field of a module's `.modinfo`: strings `key=value`, each ended by a NUL.
fn modinfo(elf: &[u8], key: &[u8]) -> Option<String> {
    let field = elf.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(key))?;
    Some(String::from_utf8_lossy(field).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> Module {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        let (release, file) = (None, PathBuf::from(name));
        Module { name: name.to_owned(), depends, release, file, elf: Vec::new() }
    }

    #[test]
    fn names_have_underscores_and_no_suffix() {
        assert_eq!(module_name("kvm-intel.ko").as_deref(), Some("kvm_intel"));
        assert_eq!(module_name("ccp.ko.xz").as_deref(), Some("ccp"));
        assert_eq!(module_name("kvm.ko.sig"), None);
        assert_eq!(module_name("modules.dep"), None);
    }

    #[test]
    fn a_signature_is_cut_off() {
        let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        let mut elf = [b"ELF".as_slice(), b"sig", &header, SIGNED].concat();
        strip_signature(&mut elf);
        assert_eq!(elf, b"ELF");
        strip_signature(&mut elf);
        assert_eq!(elf, b"ELF");
    }

    #[test]
    fn depends_are_read_from_modinfo() {
        let elf = b"\x7fELF\0\0license=GPL\0depends=kvm,irq-bypass\0retpoline=Y\0";
        assert_eq!(depends(elf), ["kvm", "irq_bypass"]);
        assert_eq!(depends(b"license=GPL\0depends=\0"), Vec::<String>::new());
        let elf = b"\0vermagic=6.1.0-9-cloud SMP mod_unload \0";
        assert_eq!(release(elf).as_deref(), Some("6.1.0-9-cloud"));
    }

    #[test]
    fn copies_farther_down_and_earlier_trees_give_way() -> Result<()> {
        let top = tempfile::tempdir()?;
        let put = |path: &str, release: &str| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().context("a directory")?)?;
            Ok::<_, anyhow::Error>(fs::write(path, format!("\0vermagic={release} \0"))?)
        };
        put("first/kvm.ko", "first")?;
        put("first/msr.ko", "first")?;
        put("second/arch/x86/kvm/kvm.ko", "second")?;
        put("second/debian/linux-image/lib/modules/x/kvm.ko", "copy")?;
        let trees = ["first", "second"].map(|tree| top.path().join(tree));
        let found = collect(&trees, &WANTED)?;
        let releases: Vec<_> = found.iter().map(|m| (&*m.name, m.release.as_deref())).collect();
        assert_eq!(releases, [("kvm", Some("second")), ("msr", Some("first"))]);
        Ok(())
    }

    #[test]
    fn modules_dep_lists_the_nearest_first() {
        let modules = [
            module("irqbypass", &[]),
            module("kvm", &["irqbypass"]),
            module("ccp", &["rng_core"]),
            module("kvm_amd", &["kvm", "ccp"]),
        ];
        assert_eq!(
            modules_dep(&modules),
            "irqbypass.ko:\nkvm.ko: irqbypass.ko\nccp.ko:\nkvm_amd.ko: ccp.ko kvm.ko irqbypass.ko\n"
        );
    }
}
