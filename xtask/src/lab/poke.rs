//! A poke: bytes in the memory of the running kernel that are changed from outside.
//!
//! On QEMU the guest asks for it over the command's channel, at the moment that its command chooses,
//! and waits for the answer; `lab/poke.sh` is the other end. Bochs has a device that does the same
//! (`lab/bochs-poke.patch`).

use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::emulator::GDB;
use super::gdb::Stopped;

/// The machine may have been stopped where the kernel is not mapped; then it goes on for a while.
const ATTEMPTS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(20);
/// More than any function has.
const LONGEST: usize = 1 << 16;

/// What is changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Poke {
    /// Where the search begins.
    address: u64,
    /// How many bytes are searched.
    within: usize,
    /// What must be there, at least once.
    old: Pattern,
    /// What takes its place, everywhere.
    new: Pattern,
}

/// Bytes, some of which may be any.
#[derive(Debug, PartialEq, Eq)]
struct Pattern(Vec<Option<u8>>);

impl FromStr for Pattern {
    type Err = anyhow::Error;

    /// Two hexadecimal digits for a byte, or `..` for any.
    fn from_str(text: &str) -> Result<Self> {
        let byte = |pair: &[u8]| match pair {
            b".." => Ok(None),
            _ => Ok(Some(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)),
        };
        let bytes: Result<Vec<_>> = text.as_bytes().chunks(2).map(byte).collect();
        match bytes {
            Ok(bytes) if !bytes.is_empty() && text.len().is_multiple_of(2) => Ok(Self(bytes)),
            _ => bail!("not bytes in hexadecimal: `{text}`"),
        }
    }
}

impl Pattern {
    fn is_at_the_start_of(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.0.len()
            && self.0.iter().zip(bytes).all(|(want, byte)| want.is_none_or(|want| want == *byte))
    }
}

impl FromStr for Poke {
    type Err = anyhow::Error;

    /// What the guest asked for: `address within old new`.
    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [address, within, old, new] = words[..] else {
            bail!("not `address within old new`: `{text}`");
        };
        let address = u64::from_str_radix(address, 16).context("the address")?;
        let within = within.parse().context("how far to search")?;
        let poke = Self { address, within, old: old.parse()?, new: new.parse()? };
        if poke.old.0.len() != poke.new.0.len() || within > LONGEST {
            bail!("the new bytes must be as many as the old, within {LONGEST}: `{text}`");
        }
        Ok(poke)
    }
}

impl Poke {
    /// Does it to the machine in the run directory; how many places were changed.
    pub fn apply(&self, dir: &Path) -> Result<usize> {
        for _ in 1..ATTEMPTS {
            if let Ok(places) = self.try_once(dir) {
                return Ok(places);
            }
            thread::sleep(BETWEEN);
        }
        self.try_once(dir)
    }

    fn try_once(&self, dir: &Path) -> Result<usize> {
        let mut machine = Stopped::stop(dir, GDB)?;
        let before = machine.read(self.address, self.within)?;
        let (after, places) = self.changed(&before);
        if places == 0 {
            bail!("the old bytes are not there");
        }
        machine.write(self.address, &after)?;
        if machine.read(self.address, self.within)? != after {
            bail!("the new bytes did not stay");
        }
        Ok(places)
    }

    /// Every place with the old bytes changed, and how many those were.
    pub fn changed(&self, before: &[u8]) -> (Vec<u8>, usize) {
        let (mut bytes, mut places, mut at) = (before.to_vec(), 0, 0);
        while at < bytes.len() {
            if !self.old.is_at_the_start_of(&bytes[at..]) {
                at += 1;
                continue;
            }
            for (byte, new) in bytes[at..].iter_mut().zip(&self.new.0) {
                *byte = new.unwrap_or(*byte);
            }
            places += 1;
            at += self.new.0.len();
        }
        (bytes, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(poke: &str, before: &[u8]) -> Option<(Vec<u8>, usize)> {
        poke.parse().ok().map(|poke: Poke| poke.changed(before))
    }

    #[test]
    fn every_place_with_the_old_bytes_is_changed() {
        let before = [1, 2, 9, 3, 1, 2, 8, 3, 1, 2, 7];
        let after = vec![1, 4, 9, 3, 1, 4, 8, 3, 1, 2, 7];
        assert_eq!(changed("ffff 11 0102..03 ..04....", &before), Some((after, 2)));
        assert_eq!(changed("0 11 aa bb", &before), Some((before.to_vec(), 0)));
    }

    #[test]
    fn what_was_asked_must_make_sense() {
        for text in
            ["", "0 1 00", "x 1 00 01", "0 1 0 1", "0 1 00 0102", "0 1 0g 00", "0 99999 00 01"]
        {
            assert!(text.parse::<Poke>().is_err(), "{text}");
        }
    }
}
