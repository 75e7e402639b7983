//! A kernel's configuration, held against what the lab asks of it.

use std::fs;
use std::path::{Path, PathBuf};

/// What the lab asks: comments that tell what an option is for, options, and two headings.
const ASKED: &str = include_str!("../../lab/kernel.config");
/// The heading of those that nothing works without.
const REQUIRED: &str = "# Required.";
/// The heading of the others.
const WANTED: &str = "# Wanted.";

/// What may as well be a module, for the lab loads these.
const LOADED: [&str; 4] = ["CONFIG_KVM", "CONFIG_KVM_INTEL", "CONFIG_KVM_AMD", "CONFIG_X86_MSR"];

/// The configuration of a kernel, where it could be found.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    text: String,
}

/// An option that a kernel lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// `CONFIG_...`
    pub option: &'static str,
    /// What becomes of the kernel.
    pub loss: &'static str,
    /// Whether nothing works without.
    pub is_required: bool,
}

impl Config {
    /// The configuration of the kernel `release` whose image is `image`: in the tree where it was
    /// built, or beside it as distributions put it.
    pub fn find(image: &Path, release: &str) -> Option<Self> {
        // TREE/arch/x86/boot/bzImage
        let tree = image.ancestors().nth(4).map(|tree| tree.join(".config"));
        let beside = [format!("config-{release}"), "config".to_owned()];
        let beside = beside.iter().map(|name| image.with_file_name(name));
        tree.into_iter().chain(beside).find_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            text.contains("\nCONFIG_").then_some(Self { path, text })
        })
    }

    /// What `option` is set to; nothing where it is off.
    pub fn value(&self, option: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(option)?.strip_prefix('=').map(str::len);
        let line = self.text.lines().find(|line| value(line).is_some())?;
        line.split_once('=').map(|(_, value)| value)
    }

    /// What it lacks, of what the lab asks of a kernel whose vendor module is `vendor`.
    pub fn lacks(&self, vendor: &str) -> Vec<Lack> {
        let other = if vendor == "kvm_intel" { "CONFIG_KVM_AMD" } else { "CONFIG_KVM_INTEL" };
        asked().into_iter().filter(|ask| ask.option != other && self.is_lacking(ask)).collect()
    }

    fn is_lacking(&self, ask: &Lack) -> bool {
        match self.value(ask.option) {
            Some("y") => false,
            Some("m") => !LOADED.contains(&ask.option),
            // An option that this kernel does not know is not named as being off either.
            _ => ask.is_required || self.text.contains(&format!("# {} is not set\n", ask.option)),
        }
    }
}

/// All that the lab asks.
fn asked() -> Vec<Lack> {
    let (mut is_required, mut loss) = (false, "");
    let mut all = Vec::new();
    for line in ASKED.lines() {
        match (line, line.strip_prefix("# "), line.split_once('=')) {
            (REQUIRED | WANTED, ..) => is_required = line == REQUIRED,
            (_, Some(comment), _) => loss = comment,
            (_, None, Some((option, _))) => all.push(Lack { option, loss, is_required }),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&str) -> String) -> Config {
        let lines = ASKED.lines().filter(|line| line.starts_with("CONFIG_"));
        let text = lines.map(|line| change(line) + "\n").collect();
        Config { path: PathBuf::from(".config"), text }
    }

    fn lacks(from: &str, to: &str) -> Vec<(&'static str, bool)> {
        let lacks = config(|line| line.replace(from, to)).lacks("kvm_amd");
        lacks.into_iter().map(|lack| (lack.option, lack.is_required)).collect()
    }

    #[test]
    fn what_is_asked_is_enough() {
        assert_eq!(config(str::to_owned).lacks("kvm_intel"), []);
        assert!(asked().iter().all(|ask| !ask.loss.is_empty()));
        assert_eq!(lacks("CONFIG_UNIX=y", ""), [("CONFIG_UNIX", true)]);
        let off = "# CONFIG_ADVISE_SYSCALLS is not set";
        assert_eq!(lacks("CONFIG_ADVISE_SYSCALLS=y", off), [("CONFIG_ADVISE_SYSCALLS", false)]);
    }

    #[test]
    fn what_is_off_or_not_known_is_lacking() {
        let console = ("CONFIG_SERIAL_8250_CONSOLE", true);
        assert_eq!(lacks("CONFIG_SERIAL_8250_CONSOLE=y", ""), [console]);
        let off = "# CONFIG_KPROBES is not set";
        assert_eq!(lacks("CONFIG_KPROBES=y", off), [("CONFIG_KPROBES", false)]);
        // Not asked for any more: Linux 6.17 always has it.
        assert_eq!(lacks("CONFIG_X86_5LEVEL=y", ""), []);
    }

    #[test]
    fn what_the_lab_loads_may_be_a_module_and_the_other_vendor_is_not_needed() {
        assert_eq!(lacks("CONFIG_KVM_AMD=y", "CONFIG_KVM_AMD=m"), []);
        assert_eq!(lacks("CONFIG_KVM_INTEL=y", ""), []);
        assert_eq!(lacks("CONFIG_KVM_AMD=y", ""), [("CONFIG_KVM_AMD", true)]);
        assert_eq!(lacks("CONFIG_TMPFS=y", "CONFIG_TMPFS=m"), [("CONFIG_TMPFS", true)]);
    }
}
