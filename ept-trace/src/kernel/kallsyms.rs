//! Symbols of the running kernel, `/proc/kallsyms`.

use std::fs;

use anyhow::{Context as _, Result};

/// One symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address; 0 where the kernel hides it.
    pub address: u64,
    /// Its name.
    pub name: String,
    /// Its module; empty for the kernel itself.
    pub module: String,
}

/// The symbols that this program asks about.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    found: Vec<Symbol>,
}

/// What is looked for. The table of a kernel has 200 000 lines, so the rest is not kept.
const WANTED: &[&str] = &[
    "cpuid_query_maxguestphyaddr",
    "enable_ept",
    "hardware_setup",
    "init_kvm_tdp_mmu",
    "kvm_arch_destroy_vm",
    "kvm_configure_mmu",
    "kvm_init_mmu",
    "max_tdp_level",
    "npt_enabled",
    "svm_hardware_setup",
    "tdp_enabled",
    "tdp_root_level",
    "vmx_capability",
    "vmx_hardware_setup",
];

impl Symbols {
    /// Reads the running kernel's.
    ///
    /// # Errors
    ///
    /// If `/proc/kallsyms` cannot be read.
    pub fn read() -> Result<Self> {
        let path = "/proc/kallsyms";
        let text = fs::read_to_string(path)
            .with_context(|| format!("{path}: is /proc mounted, and CONFIG_KALLSYMS on?"))?;
        Ok(Self::parse(&text))
    }

    /// Parses lines of `address type name [module]`; what is not one is passed over.
    pub fn parse(text: &str) -> Self {
        let found = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (address, _kind, name) = (words.next()?, words.next()?, words.next()?);
            WANTED.binary_search(&name).ok()?;
            let module = words.next().unwrap_or("").trim_matches(['[', ']']);
            Some(Symbol {
                address: u64::from_str_radix(address, 16).ok()?,
                name: name.to_owned(),
                module: module.to_owned(),
            })
        });
        Self { found: found.collect() }
    }

    /// The one symbol of this name in a module (or built in); `None` if there is none or, for
    /// then nobody can tell which is meant, several.
    pub fn unique(&self, module: &str, name: &str) -> Option<&Symbol> {
        let mut of_that_name = self
            .found
            .iter()
            .filter(|symbol| symbol.name == name)
            .filter(|symbol| symbol.module == module || symbol.module.is_empty());
        let first = of_that_name.next()?;
        of_that_name.next().is_none().then_some(first)
    }

    /// Its address, if there is one and the kernel tells it.
    pub fn address(&self, module: &str, name: &str) -> Option<u64> {
        self.unique(module, name).map(|symbol| symbol.address).filter(|address| *address != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff812e06c0 T kvm_init_mmu\n\
ffffffffc0a01000 b tdp_enabled\t[kvm]\n\
ffffffffc0a01000 b enable_ept\t[kvm_intel]\n\
ffffffffc0b01000 t hardware_setup\t[kvm_intel]\n\
ffffffffc0c01000 t hardware_setup\t[kvm_intel]\n\
broken\n\
0000000000000000 b max_tdp_level\t[kvm]\n";

    #[test]
    fn wanted_is_sorted() {
        assert!(WANTED.is_sorted());
    }

    #[test]
    fn finds_built_in_and_modular_symbols() {
        let symbols = Symbols::parse(TABLE);
        assert_eq!(symbols.address("kvm", "kvm_init_mmu"), Some(0xffff_ffff_812e_06c0));
        assert_eq!(symbols.address("kvm", "tdp_enabled"), Some(0xffff_ffff_c0a0_1000));
        assert_eq!(symbols.unique("kvm", "enable_ept"), None, "another module's");
    }

    #[test]
    fn an_ambiguous_name_is_refused_and_a_hidden_address_is_none() {
        let symbols = Symbols::parse(TABLE);
        assert_eq!(symbols.unique("kvm_intel", "hardware_setup"), None);
        assert!(symbols.unique("kvm", "max_tdp_level").is_some());
        assert_eq!(symbols.address("kvm", "max_tdp_level"), None);
    }
}
