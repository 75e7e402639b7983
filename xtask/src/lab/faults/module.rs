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
    use super::*;

    #[test]
    fn what_is_no_module_is_refused() {
        let change = Change { symbol: "x", within: 1, old: "00", new: "01" };
        assert!(changed(b"\x7fELF", &[change]).is_err());
        assert_eq!(changed(b"any", &[]).ok().as_deref(), Some(b"any".as_slice()));
    }
}
