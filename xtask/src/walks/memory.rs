//! The machine's memory as a case leaves it to the guest.

use std::collections::BTreeMap;

use ept_trace::ept::PhysRead;
use ept_trace::model::Hpa;
use walker::protocol::{DATA, OWN, TABLES, mark};

/// What the program puts there, and what the case writes over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<u64, u64>);

impl Memory {
    /// With these words written, each at a multiple of 8.
    pub fn new(words: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self(words.into_iter().collect())
    }

    /// The word at a multiple of 8; `None` outside of the cases' memory.
    pub fn word(&self, at: u64) -> Option<u64> {
        let untouched = || {
            if DATA.contains(&at) {
                Some(mark(at))
            } else {
                (TABLES.contains(&at) || OWN.contains(&at)).then_some(0)
            }
        };
        self.0.get(&at).copied().or_else(untouched)
    }

    /// Writes a word that the case has, for all others are not put back; `None` if it has not.
    pub fn set_word(&mut self, at: u64, value: u64) -> Option<()> {
        *self.0.get_mut(&at)? = value;
        Some(())
    }

    /// Eight bytes at any address.
    pub fn load(&self, at: u64) -> Option<u64> {
        let (word, bit) = (at & !7, at % 8 * 8);
        let low = self.word(word)? >> bit;
        Some(if bit == 0 { low } else { low | self.word(word + 8)? << (64 - bit) })
    }

    /// Writes eight bytes.
    pub fn store(&mut self, at: u64, value: u64) -> Option<()> {
        let (word, bit) = (at & !7, at % 8 * 8);
        let kept = (1 << bit) - 1;
        self.set_word(word, self.word(word)? & kept | value << bit)?;
        if bit != 0 {
            let next = self.word(word + 8)? & !kept;
            self.set_word(word + 8, next | value >> (64 - bit))?;
        }
        Some(())
    }
}

impl PhysRead for Memory {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        self.word(at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_words_are_what_the_program_puts_there() {
        let memory = Memory::default();
        assert_eq!(memory.word(TABLES.start), Some(0));
        assert_eq!(memory.word(OWN.end - 8), Some(0));
        assert_eq!(memory.word(DATA.start), Some(mark(DATA.start)));
        assert_eq!(memory.word(DATA.end), None);
    }

    #[test]
    fn eight_bytes_may_be_in_two_words() {
        let words = [(DATA.start, 0x1111_1111_1111_1111), (DATA.start + 8, 0x2222_2222_2222_2222)];
        let mut memory = Memory::new(words);
        assert_eq!(memory.load(DATA.start + 3), Some(0x2222_2211_1111_1111));
        assert_eq!(memory.store(DATA.start + 3, 0x8877_6655_4433_2200), Some(()));
        assert_eq!(memory.word(DATA.start), Some(0x5544_3322_0011_1111));
        assert_eq!(memory.word(DATA.start + 8), Some(0x2222_2222_2288_7766));
        assert_eq!(memory.store(DATA.start + 16, 0), None, "a word that is not the case's");
    }
}
