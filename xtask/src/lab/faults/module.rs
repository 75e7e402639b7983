//! A changed copy of a kernel module: a fault in code that runs once, as the module is loaded.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};

use super::fault::Change;
use crate::lab::poke::Poke;

/// The module's file with every one of `changes` made, each in exactly one place. Where the file
/// has a relocation, its bytes are 0.
pub fn changed(elf: &[u8], changes: &[Change]) -> Result<Vec<u8>> {
    let mut bytes = elf.to_vec();
    for Change { symbol, within, old, new } in changes {
        let start = offset(elf, symbol)?;
        let end = elf.len().min(start + *within as usize);
        let poke: Poke = format!("0 {within} {old} {new}").parse()?;
        let (after, places) = poke.changed(bytes.get(start..end).unwrap_or_default());
        if places != 1 {
            bail!("`{old}` is in {places} places within {within} bytes from {symbol} on, not in 1");
        }
        bytes.splice(start..end, after);
    }
    Ok(bytes)
}

/// Where in the file a symbol's code or data is.
fn offset(elf: &[u8], name: &str) -> Result<usize> {
    let file = object::File::parse(elf).context("the module is no ELF file")?;
    let symbol = file.symbol_by_name(name).with_context(|| format!("no symbol {name}"))?;
    let section = symbol.section_index().context("the symbol is defined elsewhere")?;
    let (start, _) = file.section_by_index(section)?.file_range().context("it has no bytes")?;
    // In a relocatable file a symbol's value is its offset in its section.
    Ok(usize::try_from(start + symbol.address())?)
}

#[cfg(test)]
mod tests {
    use object::write;
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

    use super::*;

    const CODE: [u8; 9] = [0xb9, 3, 0x90, 0xb9, 3, 0xc3, 0xb9, 4, 0xc3];

    /// A module with `first` at the beginning of [`CODE`], and `second` 3 bytes on.
    fn elf() -> Vec<u8> {
        let mut file =
            write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = file.section_id(write::StandardSection::Text);
        file.append_section_data(section, &CODE, 16);
        for (name, value) in [("first", 0), ("second", 3)] {
            file.add_symbol(write::Symbol {
                name: name.into(),
                value,
                size: 0,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: write::SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
        }
        file.write().unwrap_or_default()
    }

    fn change(symbol: &'static str, within: u32, old: &'static str, new: &'static str) -> Change {
        Change { symbol, within, old, new }
    }

    #[test]
    fn the_place_after_the_symbol_is_changed() {
        let before = elf();
        let after = changed(&before, &[change("second", 3, "b903", "b902")]).unwrap_or_default();
        let differ: Vec<usize> =
            (0..before.len()).filter(|at| before.get(*at) != after.get(*at)).collect();
        let code = before.windows(CODE.len()).position(|window| window == CODE);
        assert_eq!(differ.first().copied(), code.map(|code| code + 4));
        assert_eq!((differ.len(), after.len()), (1, before.len()));
    }

    #[test]
    fn what_is_not_in_one_place_is_refused() {
        for change in [
            change("first", 9, "b903", "b902"),
            change("first", 9, "b905", "b902"),
            change("first", 1, "b903", "b902"),
            change("third", 9, "b903", "b902"),
        ] {
            assert!(changed(&elf(), &[change]).is_err());
        }
        assert!(changed(b"\x7fELF", &[change("first", 1, "00", "01")]).is_err());
    }
}
