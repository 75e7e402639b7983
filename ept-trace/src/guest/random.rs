//! Guests with random CPUID, repeatable by their seed.

use super::{Cpuid, Guest, Highest};

/// The most vCPUs that a random guest has.
const MOST_VCPUS: u8 = 16;
/// The most CPUIDs that are set, one after the other, before a random guest runs.
const MOST_CPUIDS: u8 = 3;

/// Guests with random CPUID, the same for all vCPUs of a guest.
#[derive(Clone, Debug)]
pub struct RandomGuests {
    random: SplitMix64,
    /// vCPUs yet to come.
    vcpus: usize,
}

impl RandomGuests {
    /// Guests with so many vCPUs altogether.
    pub fn new(vcpus: usize, seed: u64) -> Self {
        Self { random: SplitMix64(seed), vcpus }
    }
}

impl Iterator for RandomGuests {
    type Item = Guest;

    fn next(&mut self) -> Option<Guest> {
        if self.vcpus == 0 {
            return None;
        }
        let vcpus = usize::from(self.random.up_to(MOST_VCPUS)).min(self.vcpus);
        self.vcpus -= vcpus;
        let cpuids: Vec<_> =
            (0..self.random.up_to(MOST_CPUIDS)).map(|_| self.random.cpuid()).collect();
        Some(Guest::uniform(&cpuids, vcpus))
    }
}

/// A pseudo-random generator of 64 bits of state: Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014. Its own, so that a seed means the same for ever.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        mix(self.0)
    }

    /// Below `end`, which is not 0; the bias of the remainder is of no matter here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The numbers below `end` in random order.
    pub(super) fn shuffled(&mut self, end: u64) -> Vec<u64> {
        let mut numbers: Vec<_> = (0..end).collect();
        // Fisher and Yates.
        for last in (1..numbers.len()).rev() {
            let other = self.below(last as u64 + 1);
            numbers.swap(last, usize::try_from(other).unwrap_or(last));
        }
        numbers
    }

    /// From 1 to `most`; the bias of the remainder is of no matter here.
    fn up_to(&mut self, most: u8) -> u8 {
        1 + self.byte() % most
    }

    fn is_one_in(&mut self, times: u8) -> bool {
        self.up_to(times) == 1
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Mostly widths that there are, at times any, and at times no leaf that tells it.
    fn cpuid(&mut self) -> Cpuid {
        let usual = 32 + self.byte() % 21;
        let any = self.byte();
        let maxphyaddr = if self.is_one_in(4) { any } else { usual };
        Cpuid {
            maxphyaddr: (!self.is_one_in(10)).then_some(maxphyaddr),
            guest_phys_bits: None,
            highest: match self.up_to(20) {
                1 => Highest::TooLow,
                2 => Highest::Absent,
                _ => Highest::Supported,
            },
        }
    }
}

/// The generator's output for a state: a permutation of all words, so that no two are alike.
pub(super) fn mix(word: u64) -> u64 {
    let mixed = (word ^ word >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d049bb133111eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_guests_and_another_seed_others() {
        let guests = |seed| RandomGuests::new(200, seed).collect::<Vec<_>>();
        assert_eq!(guests(7), guests(7));
        assert_ne!(guests(7), guests(8));
    }

    #[test]
    fn a_shuffle_keeps_every_number_and_moves_most() {
        let shuffled = SplitMix64(1).shuffled(100);
        assert!(shuffled.iter().zip(0..).filter(|(number, place)| **number == *place).count() < 10);
        let sorted: BTreeSet<_> = shuffled.into_iter().collect();
        assert!(sorted.into_iter().eq(0..100));
        assert!(SplitMix64(1).shuffled(0).is_empty());
    }

    #[test]
    fn all_that_may_be_is_there_in_time() {
        let guests: Vec<_> = RandomGuests::new(10_000, 1).collect();
        assert_eq!(guests.iter().map(|guest| guest.vcpus.len()).sum::<usize>(), 10_000);
        let sizes: BTreeSet<_> = guests.iter().map(|guest| guest.vcpus.len()).collect();
        assert!(sizes.into_iter().eq(1..=16));
        let cpuids: Vec<_> = guests.iter().map(|guest| guest.vcpus[0].clone()).collect();
        let lengths: BTreeSet<_> = cpuids.iter().map(Vec::len).collect();
        assert!(lengths.into_iter().eq(1..=3));
        let all: Vec<_> = cpuids.concat();
        for highest in [Highest::Supported, Highest::TooLow, Highest::Absent] {
            assert!(all.iter().any(|cpuid| cpuid.highest == highest), "{highest:?}");
        }
        assert!(all.iter().any(|cpuid| cpuid.maxphyaddr.is_none()));
        let is_usual = |cpuid: &&Cpuid| (32..=52).contains(&cpuid.effective_maxphyaddr());
        let usual = all.iter().filter(is_usual).count();
        assert!(usual > all.len() / 2 && usual < all.len(), "{usual} of {}", all.len());
    }
}
