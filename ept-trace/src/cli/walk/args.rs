//! The arguments, and what they leave to be assumed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::root::{Pointer, TheCpu};
use crate::cli::explain::parse_hex;
use crate::cli::output::Format;
use crate::ept::{Access, EptCapability};

/// The arguments.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("root").args(["eptp", "ncr3", "vectors"]).required(true))]
#[command(group = clap::ArgGroup::new("what").args(["gpa", "dump", "vectors"]).required(true))]
#[command(after_help = "Exit codes: 0 there is an answer, faults included; 1 a vector failed; \
    2 usage; 3 an entry is not in the dump; 4 --live cannot run here; 5 bad input")]
pub(in crate::cli) struct Args {
    /// EPT pointer that the walk begins at, as `watch` shows it or KVM's VMCS dump
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    eptp: Option<u64>,
    /// Nested CR3 that the walk begins at, on AMD
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    ncr3: Option<u64>,
    /// Guest-physical address to walk to
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    gpa: Option<u64>,
    /// Show the whole table as ranges instead
    #[arg(long)]
    dump: bool,
    /// What the access does: read, write or fetch
    #[arg(long, value_enum, default_value = "r", conflicts_with = "dump")]
    access: AccessKind,
    #[command(flatten)]
    from: From,
    /// Where memory is in a raw dump: lines START-END @ OFFSET [default: from address 0 up]
    #[arg(long, value_name = "FILE", requires = "memory")]
    map: Option<PathBuf>,
    /// MAXPHYADDR of the CPU [default: this machine's with --live, else 52]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    maxphyaddr: Option<u8>,
    /// The CPU's EPT capability, MSR 0x48c [default: this machine's with --live, else everything]
    #[arg(long, value_name = "HEX", value_parser = parse_hex, conflicts_with = "ncr3")]
    ept_cap: Option<u64>,
    /// Mode-based execute control is on: bit 10 counts
    #[arg(long, conflicts_with = "ncr3")]
    mbe: bool,
    /// Levels of the NPT: 5 where the host has CR4.LA57
    #[arg(long, value_name = "LEVELS", conflicts_with = "eptp")]
    #[arg(value_parser = clap::value_parser!(u8).range(4..=5))]
    levels: Option<u8>,
    /// Run conformance vectors instead, print the failures and the counts
    #[arg(long, value_name = "FILE", exclusive = true)]
    vectors: Option<PathBuf>,
    /// Format of the output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(short)]
    json: bool,
}

/// Where the entries come from.
#[derive(clap::Args)]
#[group(multiple = false)]
struct From {
    /// Memory dump: ELF core, kdump-compressed, LiME or raw
    #[arg(long, value_name = "DUMP")]
    memory: Option<PathBuf>,
    /// This machine's memory, by /proc/kcore
    #[cfg(feature = "live")]
    #[arg(long)]
    live: bool,
    /// Entries in a text file: lines TABLE INDEX VALUE or ADDRESS VALUE
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AccessKind {
    #[value(alias = "read")]
    R,
    #[value(alias = "write")]
    W,
    #[value(aliases = ["fetch", "execute"])]
    X,
}

impl AccessKind {
    /// The access.
    pub(super) fn access(self) -> Access {
        match self {
            Self::R => Access::READ,
            Self::W => Access::WRITE,
            Self::X => Access::FETCH,
        }
    }
}

/// Where the entries come from.
pub(super) enum Source<'a> {
    Memory {
        dump: &'a Path,
        map: Option<&'a Path>,
    },
    #[cfg(feature = "live")]
    Live,
    Entries(&'a Path),
}

/// Every feature that a walk may depend on.
pub(super) const EVERYTHING: u64 = EptCapability::EXECUTE_ONLY
    | EptCapability::WALK_4
    | EptCapability::WALK_5
    | EptCapability::UNCACHEABLE
    | EptCapability::WRITE_BACK
    | EptCapability::PAGE_2M
    | EptCapability::PAGE_1G
    | EptCapability::ACCESSED_DIRTY
    | EptCapability::ADVANCED_EXIT_INFORMATION
    | EptCapability::SHADOW_STACK;
/// The widest that MAXPHYADDR can be.
pub(super) const WIDEST: u8 = 52;

impl Args {
    /// The vectors to run.
    pub(super) fn vectors(&self) -> Option<&Path> {
        self.vectors.as_deref()
    }

    /// The root, and where the entries come from.
    pub(super) fn what_to_walk(&self) -> Result<(Pointer, Source<'_>)> {
        let pointer = match (self.eptp, self.ncr3) {
            (Some(eptp), _) => Pointer::Eptp(eptp),
            (None, Some(ncr3)) => Pointer::Ncr3(ncr3),
            (None, None) => bail!("give --eptp HEX or --ncr3 HEX"),
        };
        let source = match (&self.from.memory, &self.from.entries) {
            (Some(dump), _) => Source::Memory { dump, map: self.map.as_deref() },
            (None, Some(path)) => Source::Entries(path),
            (None, None) => self.live()?,
        };
        Ok((pointer, source))
    }

    #[cfg(feature = "live")]
    fn live(&self) -> Result<Source<'_>> {
        if !self.from.live {
            bail!("give --memory DUMP, --live or --entries FILE");
        }
        Ok(Source::Live)
    }

    #[cfg(not(feature = "live"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn live(&self) -> Result<Source<'_>> {
        bail!("give --memory DUMP or --entries FILE");
    }

    /// The address to walk to; nothing for the whole table.
    pub(super) fn gpa(&self) -> Option<u64> {
        self.gpa
    }

    /// The access.
    pub(super) fn access(&self) -> Access {
        self.access.access()
    }

    /// Whether to print JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    /// The CPU: as the arguments say, else as this machine's is if it is its memory that is
    /// walked, else assumed.
    pub(super) fn cpu(&self) -> TheCpu {
        let machine = self.machine();
        let mut assumed = Vec::new();
        let maxphyaddr = self.maxphyaddr.or(machine.maxphyaddr).unwrap_or_else(|| {
            assumed.push(format!("MAXPHYADDR {WIDEST} (--maxphyaddr says otherwise)"));
            WIDEST
        });
        let capability = self.ept_cap.or(machine.ept_cap).unwrap_or_else(|| {
            if self.eptp.is_some() {
                assumed.push(format!(
                    "EPT capability {EVERYTHING:#x}, all features (--ept-cap says otherwise)"
                ));
            }
            EVERYTHING
        });
        TheCpu {
            maxphyaddr,
            capability: EptCapability(capability),
            mbe: self.mbe,
            levels: self.levels.or(machine.npt_levels),
            assumed,
        }
    }

    #[cfg(feature = "live")]
    fn machine(&self) -> Machine {
        let Some(facts) = self
            .from
            .live
            .then(crate::kernel::Host::read)
            .and_then(Result::ok)
            .map(|host| host.facts)
        else {
            return Machine::default();
        };
        let capability = facts.hardware.ept_vpid_cap.value();
        let of_kvm = || facts.kvm.vmx_capability_ept.value().map(u64::from);
        Machine {
            maxphyaddr: facts.hardware.maxphyaddr.value(),
            ept_cap: capability.or_else(of_kvm),
            npt_levels: facts.hardware.host_la57.value().map(|la57| if la57 { 5 } else { 4 }),
        }
    }

    #[cfg(not(feature = "live"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn machine(&self) -> Machine {
        Machine::default()
    }
}

/// What this machine says of itself, where it is asked.
#[derive(Default)]
struct Machine {
    maxphyaddr: Option<u8>,
    ept_cap: Option<u64>,
    npt_levels: Option<u8>,
}
