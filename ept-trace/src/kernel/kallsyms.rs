//! Symbols of the running kernel, `/proc/kallsyms`.

/// One symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address; 0 where the kernel hides it.
    pub address: u64,
    /// Its name.
    pub name: String,
    /// Its module; empty for the kernel itself.
    pub module: String,
    /// Where the next symbol of the same module begins, for the one that is looked into.
    end: Option<u64>,
}

/// The symbols that this program asks about.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    found: Vec<Symbol>,
}

/// What is looked for. The table of a kernel has 200 000 lines, so the rest is not kept.
const WANTED: &[&str] = &[
    "__handle_changed_spte",
    "cpuid_query_maxguestphyaddr",
    "enable_ept",
    "enable_ept_ad_bits",
    "handle_changed_spte",
    "hardware_setup",
    "init_kvm_tdp_mmu",
    "kvm_arch_destroy_vm",
    "kvm_arch_init_vm",
    "kvm_configure_mmu",
    "kvm_init_mmu",
    "kvm_init_shadow_ept_mmu",
    "kvm_init_shadow_npt_mmu",
    "kvm_mmu_page_fault",
    "kvm_mtrr_get_guest_memory_type",
    "kvm_tdp_mmu_map",
    "kvm_tdp_page_fault",
    "max_tdp_level",
    "npt_enabled",
    "page_offset_base",
    "shadow_mmio_mask",
    "shadow_mmio_value",
    "shadow_mmu_writable_mask",
    "sme_me_mask",
    "svm_hardware_setup",
    "svm_load_mmu_pgd",
    "tdp_enabled",
    "tdp_root_level",
    "vmemmap_base",
    "vmx_capability",
    "vmx_hardware_setup",
    "vmx_load_mmu_pgd",
];

/// The function whose code is looked into: its end has to be known.
const SEARCHED: &str = "vmx_load_mmu_pgd";

impl Symbols {
    /// Parses lines of `address type name [module]`; what is not one is passed over.
    pub fn parse(text: &str) -> Self {
        let wanted = text.lines().filter_map(|line| {
            // The name first: there are 200 000 lines, and few are kept.
            let name = line.split_ascii_whitespace().nth(2)?;
            WANTED.binary_search(&name).ok()?;
            parse_line(line)
        });
        let mut found: Vec<_> = wanted
            .map(|(address, name, module)| Symbol {
                address,
                name: name.to_owned(),
                module: module.to_owned(),
                end: None,
            })
            .collect();
        for symbol in found.iter_mut().filter(|symbol| symbol.name == SEARCHED) {
            symbol.end = end(text, symbol);
        }
        Self { found }
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

    /// Where the symbol after it begins, if it is one that is looked into.
    pub fn end(&self, module: &str, name: &str) -> Option<u64> {
        self.unique(module, name).and_then(|symbol| symbol.end)
    }

    /// Its address, if there is one and the kernel tells it.
    pub fn address(&self, module: &str, name: &str) -> Option<u64> {
        self.unique(module, name).map(|symbol| symbol.address).filter(|address| *address != 0)
    }
}

/// Where the next symbol of the same module begins. The table is not in the order of addresses.
fn end(text: &str, symbol: &Symbol) -> Option<u64> {
    let suffix =
        if symbol.module.is_empty() { String::new() } else { format!("[{}]", symbol.module) };
    text.lines()
        .filter(|line| line.ends_with(&suffix))
        .filter_map(parse_line)
        .filter(|(address, _, module)| *module == symbol.module && *address > symbol.address)
        .map(|(address, ..)| address)
        .min()
}

/// Address, name and module of a line.
fn parse_line(line: &str) -> Option<(u64, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (address, _kind, name) = (words.next()?, words.next()?, words.next()?);
    let module = words.next().unwrap_or("").trim_matches(['[', ']']);
    Some((u64::from_str_radix(address, 16).ok()?, name, module))
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
    fn a_function_ends_where_the_next_symbol_of_its_module_begins() {
        let table = "\
ffffffffc0a01800 t after\t[kvm_intel]\n\
ffffffffc0a01000 t vmx_load_mmu_pgd\t[kvm_intel]\n\
ffffffffc0a01200 t between\t[kvm]\n\
ffffffffc0a01400 t next\t[kvm_intel]\n\
ffffffffc0a00800 t before\t[kvm_intel]\n";
        let symbols = Symbols::parse(table);
        let end = symbols.end("kvm_intel", "vmx_load_mmu_pgd");
        assert_eq!(end, Some(0xffff_ffff_c0a0_1400));
        let last = table.replace("1400", "0400").replace("1800", "0600");
        assert_eq!(Symbols::parse(&last).end("kvm_intel", "vmx_load_mmu_pgd"), None);
        let built_in = "ffffffff81001000 t vmx_load_mmu_pgd\nffffffff81001100 t next\n";
        let end = Symbols::parse(built_in).end("kvm_intel", "vmx_load_mmu_pgd");
        assert_eq!(end, Some(0xffff_ffff_8100_1100));
    }

    #[test]
    fn an_ambiguous_name_is_refused_and_a_hidden_address_is_none() {
        let symbols = Symbols::parse(TABLE);
        assert_eq!(symbols.unique("kvm_intel", "hardware_setup"), None);
        assert!(symbols.unique("kvm", "max_tdp_level").is_some());
        assert_eq!(symbols.address("kvm", "max_tdp_level"), None);
    }
}
