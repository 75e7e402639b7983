//! The arguments, and which guests they ask for.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::cli::output::OutputArgs;
use crate::guest::{
    Cpuid, Guest, RandomGuests, TOUCHING_MEMORY, mixed, nested, ordinary, touching,
};

/// The arguments.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// MAXPHYADDR values of the guests, in bits
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_value = "32,36,39,40,46,48,49,52")]
    #[arg(default_value_if("nested", "true", "40,52"))]
    maxphyaddr: Vec<u8>,
    /// vCPUs of a guest with several
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// GuestPhysBits of every guest (CPUID 0x80000008 EAX[23:16]), 0 for none; default: as KVM has it
    #[arg(long, value_name = "BITS", conflicts_with = "random")]
    guest_phys_bits: Option<u8>,
    /// Instead: one guest whose vCPUs have these MAXPHYADDR values, one each
    #[arg(long, value_name = "LIST", value_delimiter = ',', group = "instead")]
    mixed: Vec<u8>,
    /// Instead: N vCPUs with random CPUID, in guests of 1 to 16
    #[arg(long, value_name = "N", group = "instead")]
    random: Option<usize>,
    /// With --random: repeat the guests of this seed
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// Instead: guests that write to this GPA in 64-bit mode, in memory of its own
    #[arg(long, value_name = "GPA", value_parser = gpa, group = "instead")]
    touch: Option<u64>,
    /// With --touch: again for each line on stdin
    #[arg(long, requires = "touch")]
    again: bool,
    /// Instead: guests that are hypervisors, with nested page tables of 4 and of 5 levels, for
    /// MAXPHYADDR 40 and 52 unless told otherwise
    #[arg(long, group = "instead")]
    pub(super) nested: bool,
    /// Load the vendor module (again) meanwhile, as modprobe is configured to, so that
    /// `hardware_setup` is seen
    #[arg(long)]
    pub(super) reload: bool,
    /// Seconds after which a guest that does not halt is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(super) patience: u64,
    /// Use tracepoints alone, even where functions can be hooked
    #[arg(long)]
    pub(super) tracepoints: bool,
    /// Write the observations to a file, for `analyze`
    #[arg(short, value_name = "FILE")]
    pub(super) output_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Guests, as they are needed.
pub(super) type Guests = Box<dyn Iterator<Item = Guest>>;

impl Args {
    /// Whether KVM may refuse a guest's CPUID without that being a failure.
    pub(super) fn may_be_refused(&self) -> bool {
        self.random.is_some()
    }

    /// Whether a guest that does not end says nothing about those that follow.
    pub(super) fn may_hang(&self) -> bool {
        self.touch.is_some()
    }

    /// The guests asked for. The seed of random ones is told, so that they can be repeated.
    pub(super) fn guests(&self) -> Guests {
        let cpuids = self.cpuids(&self.maxphyaddr);
        if let Some(vcpus) = self.random {
            let seed = self.seed.unwrap_or_else(arbitrary_seed);
            eprintln!("ept-trace: random guests, to be repeated with --seed {seed}");
            Box::new(RandomGuests::new(vcpus, seed))
        } else if let Some(gpa) = self.touch {
            Box::new(touching(gpa, self.again, &cpuids).into_iter())
        } else if self.nested {
            Box::new(nested(&cpuids).into_iter())
        } else if self.mixed.is_empty() {
            Box::new(ordinary(&cpuids, self.vcpus as usize).into_iter())
        } else {
            Box::new(std::iter::once(mixed(&self.cpuids(&self.mixed))))
        }
    }

    fn cpuids(&self, maxphyaddrs: &[u8]) -> Vec<Cpuid> {
        let cpuid = |&bits| Cpuid { guest_phys_bits: self.guest_phys_bits, ..Cpuid::of(bits) };
        maxphyaddrs.iter().map(cpuid).collect()
    }
}

/// A seed that differs from run to run; short, for people to type.
fn arbitrary_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
}

/// A GPA for a word of 8 bytes: hexadecimal after 0x, else decimal.
fn gpa(text: &str) -> Result<u64> {
    let gpa = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16)?,
        None => text.parse()?,
    };
    if gpa % 8 != 0 || gpa >> 52 != 0 {
        bail!("must be a multiple of 8, and have at most 52 bits");
    }
    if gpa < TOUCHING_MEMORY {
        bail!("the guest's own memory is below {TOUCHING_MEMORY:#x}");
    }
    Ok(gpa)
}

#[cfg(test)]
mod tests {
    use super::gpa;

    #[test]
    fn a_gpa_is_hexadecimal_or_decimal_and_aligned() {
        let parsed = ["0x10000", "65536", "0xffffffffffff8"].map(|text| gpa(text).ok());
        assert_eq!(parsed, [Some(0x10000), Some(0x10000), Some((1 << 52) - 8)]);
        for wrong in ["0x10001", "0x8000", "0x10000000000000", "1000h", "", "-8"] {
            assert!(gpa(wrong).is_err(), "{wrong}");
        }
    }
}
