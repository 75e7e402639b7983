//! Which guests are driven.

use std::fmt;

use super::Cpuid;

/// What every vCPU of a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A few instructions in real mode.
    Halt,
    /// A write to a GPA and a read from there, in 64-bit mode.
    Touch {
        /// The GPA.
        gpa: u64,
        /// Again for each line on stdin.
        again: bool,
    },
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// What it runs.
    pub program: Program,
    /// Its vCPUs: for each the CPUIDs that are set, in this order, before it runs.
    pub vcpus: Vec<Vec<Cpuid>>,
}

impl Guest {
    /// A guest that halts, whose vCPUs all have the same CPUID.
    pub fn uniform(cpuids: &[Cpuid], vcpus: usize) -> Self {
        Self { program: Program::Halt, vcpus: vec![cpuids.to_vec(); vcpus] }
    }

    /// MAXPHYADDR of each vCPU as KVM should use it when the vCPU runs, in bits.
    pub fn maxphyaddrs(&self) -> impl Iterator<Item = u8> {
        self.vcpus.iter().filter_map(|cpuids| cpuids.last()).map(Cpuid::effective_maxphyaddr)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, cpuids: &[Cpuid]| {
            for (n, cpuid) in cpuids.iter().enumerate() {
                write!(f, "{}{cpuid}", if n > 0 { ", then " } else { "" })?;
            }
            Ok(())
        };
        let count = self.vcpus.len();
        if self.vcpus.iter().all(|cpuids| *cpuids == self.vcpus[0]) {
            list(f, self.vcpus.first().map_or(&[], Vec::as_slice))?;
            write!(f, ", {count} vCPU{}", if count == 1 { "" } else { "s" })?;
        } else {
            write!(f, "{count} vCPUs")?;
            for (n, cpuids) in self.vcpus.iter().enumerate() {
                write!(f, "{} ", if n > 0 { ";" } else { ":" })?;
                list(f, cpuids)?;
            }
        }
        match self.program {
            Program::Halt => Ok(()),
            Program::Touch { gpa, .. } => write!(f, ", touching GPA {gpa:#x}"),
        }
    }
}

/// The guests for a list of CPUIDs: each with one and with several vCPUs, every CPUID also set in
/// the place of its neighbour before the first run, and one without leaf 0x80000008.
pub fn ordinary(cpuids: &[Cpuid], vcpus: usize) -> Vec<Guest> {
    let mut guests = Vec::new();
    for &cpuid in cpuids {
        guests.push(Guest::uniform(&[cpuid], 1));
        if vcpus > 1 {
            guests.push(Guest::uniform(&[cpuid], vcpus));
        }
    }
    for pair in cpuids.windows(2) {
        guests.push(Guest::uniform(&[pair[0], pair[1]], 1));
        guests.push(Guest::uniform(&[pair[1], pair[0]], 1));
    }
    guests.push(Guest::uniform(&[Cpuid::without_address_sizes()], 1));
    guests
}

/// One guest whose vCPUs have each the CPUID of its place in the list.
pub fn mixed(cpuids: &[Cpuid]) -> Guest {
    Guest { program: Program::Halt, vcpus: cpuids.iter().map(|&cpuid| vec![cpuid]).collect() }
}

/// For each CPUID a guest that touches this GPA; `again` for each line on stdin.
pub fn touching(gpa: u64, again: bool, cpuids: &[Cpuid]) -> Vec<Guest> {
    let program = Program::Touch { gpa, again };
    let guest = |&cpuid| Guest { program, ..Guest::uniform(&[cpuid], 1) };
    cpuids.iter().map(guest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(guests: &[Guest]) -> Vec<String> {
        guests.iter().map(Guest::to_string).collect()
    }

    #[test]
    fn every_value_is_driven_in_every_way() {
        let guests = ordinary(&[Cpuid::of(36), Cpuid::of(52)], 2);
        let expected = [
            "MAXPHYADDR 36, 1 vCPU",
            "MAXPHYADDR 36, 2 vCPUs",
            "MAXPHYADDR 52, 1 vCPU",
            "MAXPHYADDR 52, 2 vCPUs",
            "MAXPHYADDR 36, then MAXPHYADDR 52, 1 vCPU",
            "MAXPHYADDR 52, then MAXPHYADDR 36, 1 vCPU",
            "no CPUID leaf 0x80000008, 1 vCPU",
        ];
        assert_eq!(shown(&guests), expected);
    }

    #[test]
    fn a_mixed_guest_has_one_vcpu_for_each_value() {
        let guest = mixed(&[Cpuid::of(36), Cpuid::of(52)]);
        assert_eq!(guest.to_string(), "2 vCPUs: MAXPHYADDR 36; MAXPHYADDR 52");
        assert_eq!(guest.maxphyaddrs().collect::<Vec<_>>(), [36, 52]);
    }
}
