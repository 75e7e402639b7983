//! Which guests are driven.

use std::fmt;

/// What the guest's CPUID says of MAXPHYADDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpuid {
    /// This many bits.
    Maxphyaddr(u8),
    /// First these bits, then others, before the first run.
    Changed(u8, u8),
    /// There is no leaf 0x80000008.
    LeafAbsent,
}

impl Cpuid {
    /// MAXPHYADDR that KVM should use for the guest when it runs.
    pub fn maxphyaddr(self) -> u8 {
        match self {
            Self::Maxphyaddr(bits) | Self::Changed(_, bits) => bits,
            Self::LeafAbsent => ept_trace_common::decision::DEFAULT_MAXPHYADDR,
        }
    }
}

/// One guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its CPUID, the same for all its vCPUs.
    pub cpuid: Cpuid,
    /// How many vCPUs it has.
    pub vcpus: u32,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpuid {
            Cpuid::Maxphyaddr(bits) => write!(f, "MAXPHYADDR {bits}")?,
            Cpuid::Changed(first, then) => write!(f, "MAXPHYADDR {first}, then {then}")?,
            Cpuid::LeafAbsent => f.write_str("no CPUID leaf 0x80000008")?,
        }
        write!(f, ", {} vCPU{}", self.vcpus, if self.vcpus == 1 { "" } else { "s" })
    }
}

/// The guests for a list of MAXPHYADDR values: each with one and with several vCPUs, every value
/// also set in the place of its neighbour before the first run, and one without the leaf.
pub fn guests(maxphyaddrs: &[u8], vcpus: u32) -> Vec<Guest> {
    let mut guests = Vec::new();
    for &bits in maxphyaddrs {
        guests.push(Guest { cpuid: Cpuid::Maxphyaddr(bits), vcpus: 1 });
        if vcpus > 1 {
            guests.push(Guest { cpuid: Cpuid::Maxphyaddr(bits), vcpus });
        }
    }
    for pair in maxphyaddrs.windows(2) {
        guests.push(Guest { cpuid: Cpuid::Changed(pair[0], pair[1]), vcpus: 1 });
        guests.push(Guest { cpuid: Cpuid::Changed(pair[1], pair[0]), vcpus: 1 });
    }
    guests.push(Guest { cpuid: Cpuid::LeafAbsent, vcpus: 1 });
    guests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_driven_in_every_way() {
        let guests = guests(&[36, 52], 2);
        let expected = [
            "MAXPHYADDR 36, 1 vCPU",
            "MAXPHYADDR 36, 2 vCPUs",
            "MAXPHYADDR 52, 1 vCPU",
            "MAXPHYADDR 52, 2 vCPUs",
            "MAXPHYADDR 36, then 52, 1 vCPU",
            "MAXPHYADDR 52, then 36, 1 vCPU",
            "no CPUID leaf 0x80000008, 1 vCPU",
        ];
        assert_eq!(guests.iter().map(Guest::to_string).collect::<Vec<_>>(), expected);
    }
}
