//! Entries that a person wrote down, or another tool printed.

use std::collections::HashMap;

use super::raw::hex;
use crate::ept::PhysRead;
use crate::model::Hpa;

/// Entries by their addresses; nothing else is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(HashMap<u64, u64>);

impl Entries {
    /// Reads lines `TABLE INDEX VALUE` or `ADDRESS VALUE`: addresses and values in hexadecimal,
    /// INDEX in decimal unless it begins with 0x; `#` begins a comment. Of an entry that is given
    /// twice the last counts.
    ///
    /// # Errors
    ///
    /// Names the line that is not one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let (at, value) = entry(&words).ok_or_else(|| {
                format!(
                    "line {number}: neither TABLE INDEX VALUE nor ADDRESS VALUE, as in \
                     0x32cd000 1 0xbc32e67 or 0x32cd008 0xbc32e67"
                )
            })?;
            entries.insert(at, value);
        }
        if entries.is_empty() {
            return Err("no entry is in it".to_owned());
        }
        Ok(Self(entries))
    }
}

/// An entry's address, which is a multiple of 8, and its value.
fn entry(words: &[&str]) -> Option<(u64, u64)> {
    match words {
        [table, index, value] => {
            let index = match index.strip_prefix("0x") {
                Some(_) => hex(index)?,
                None => index.parse().ok()?,
            };
            let table = hex(table)?;
            (table % 4096 == 0 && index < 512).then_some((table | index << 3, hex(value)?))
        }
        [at, value] => {
            let at = hex(at)?;
            (at % 8 == 0).then_some((at, hex(value)?))
        }
        _ => None,
    }
}

impl PhysRead for Entries {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        self.0.get(&at.0).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_an_entry_mean_the_same() {
        let entries = Entries::parse(
            "# the PTE\n0x32cd000 1 0xbc32e67\n32ce000 0x10 5 # the PDE\n\n32ce008 0\n",
        )
        .unwrap();
        assert_eq!(entries.read_u64(Hpa(0x32cd008)), Some(0xbc32e67));
        assert_eq!(entries.read_u64(Hpa(0x32ce080)), Some(5));
        assert_eq!(entries.read_u64(Hpa(0x32ce008)), Some(0), "given as 0, and not missing");
        assert_eq!(entries.read_u64(Hpa(0x32ce000)), None);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["1000", "1004 7", "1008 0 7", "1000 512 7", "1000 -1 7", "1000 0 7 8", "x 7"] {
            let err = Entries::parse(&format!("1000 0 7\n{bad}")).unwrap_err();
            assert!(err.starts_with("line 2: "), "{bad}: {err}");
        }
        assert!(Entries::parse("# nothing").is_err());
    }
}
