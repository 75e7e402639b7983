//! A captured walk, walked again: what the hardware makes of the entries.

use super::{Absent, Known, MmioEntries};
use crate::ept::{
    Access, Cpu, Ept, EptCapability, Misconfiguration, Npt, NptCpu, Outcome, PhysRead, Step, Trail,
    Translation,
};
use crate::model::{Gpa, Hpa, Race, Vendor, Walk};
use ept_trace_common::eptp;

/// `PFERR_WRITE_MASK`.
const PFERR_WRITE: u64 = 1 << 1;
/// `PFERR_FETCH_MASK`.
const PFERR_FETCH: u64 = 1 << 4;
/// RSVD of EXITINFO1.
const RESERVED: u64 = 1 << 3;
/// R, W and X of KVM's entries for MMIO with EPT, on all kernels.
const EPT_MMIO: u64 = 6;
/// `KVM_X86_TDX_VM`: what `root.hpa` leads to is not what the hardware walks.
const TDX_VM: u32 = 5;
/// Index of an entry in its table.
const INDEX: u64 = 0x1ff;
/// Bits 51:12 of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The most levels, and so entries, of a walk.
const MOST_LEVELS: usize = 5;
/// No CPU refuses an address of this width, nor anything for what this capability offers: what is
/// refused with them, every CPU refuses.
const WIDEST: u8 = 52;
const EVERYTHING: u64 = u64::MAX;

/// What the hardware makes of a walk's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The entries, with their levels and tables.
    pub trail: Trail,
    /// Where it ends.
    pub end: End,
}

/// Where a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The access goes through.
    Mapped(Translation),
    /// The address is mapped, and the rights do not allow the access.
    Denied,
    /// An entry is not present.
    Absent(Absent),
    /// An entry of KVM's for MMIO, which faults on purpose.
    Mmio,
    /// The CPU refuses an entry: misconfigured (EPT), or with reserved bits (NPT).
    Refused(Option<Misconfiguration>),
    /// The address has more bits than the table, or than the CPU.
    TooWide,
    /// There are no more entries: one could not be read.
    Cut,
}

impl Translated {
    /// The last entry that was used.
    pub fn last(&self) -> Option<&Step> {
        self.trail.last()
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mapped(to) => write!(f, "HPA {}, level {}, {}", to.hpa, to.level, to.rights),
            Self::Denied => f.write_str("the rights deny the access"),
            Self::Absent(Absent::Empty) => f.write_str("not present"),
            Self::Absent(Absent::Frozen) => f.write_str("not present, being changed"),
            Self::Absent(Absent::AccessTracked) => f.write_str("not present, access-tracked"),
            Self::Mmio => f.write_str("MMIO"),
            Self::Refused(_) => f.write_str("an entry is misconfigured"),
            Self::TooWide => f.write_str("the address is too wide"),
            Self::Cut => f.write_str("not read to the end"),
        }
    }
}

/// Walks the entries as the hardware does. Where the CPU is not wholly known, it may still be known
/// that every CPU refuses an entry.
///
/// # Errors
///
/// What is missing to do so.
pub fn translate(walk: &Walk, known: &Known) -> Result<Translated, String> {
    if walk.vm_type == Some(TDX_VM) && *known.vendor() == Vendor::Vmx {
        return Err("of a TDX VM the hardware walks other tables".to_owned());
    }
    let (root, level) = match walk.root_hpa {
        Some(root) => (root, walk.root_level.ok_or("the root level could not be read")?),
        None => printed_root(walk, known)?,
    };
    if walk.races.contains(&Race::Root) {
        return Err(Race::Root.what().to_owned());
    }
    if walk.is_dummy {
        return Err("the root is a page without a role: a dummy, or one for 32-bit NPT".to_owned());
    }
    let width = known.host_maxphyaddr();
    let maxphyaddr = width.value().unwrap_or(WIDEST);
    let mut missing =
        width.value().is_none().then(|| format!("MAXPHYADDR of the host: {}", width.origin()));
    let mmio = MmioEntries::of(walk, known);
    if let Err(why) = &mmio {
        missing.get_or_insert_with(|| why.clone());
    }
    let mask = known.encryption_mask();
    let entries = Captured::new(walk, root, level, mask);
    let access = access(walk.error_code);
    let gpa = Gpa(walk.gpa);
    let walked = match known.vendor() {
        Vendor::Vmx => {
            let capability = known.capability();
            let bits = capability.value().unwrap_or_else(|| {
                missing
                    .get_or_insert_with(|| format!("the EPT capability: {}", capability.origin()));
                EVERYTHING
            });
            let cpu = Cpu { capability: EptCapability(bits), maxphyaddr, ..Cpu::default() };
            let accessed_dirty = known.enable_ept_ad_bits(&walk.inputs).value() == Some(true)
                && walk.ad_disabled == Some(false);
            let pointer = eptp::of(root, level, accessed_dirty);
            let ept = Ept::new(pointer, &cpu).map_err(|why| {
                format!("EPTP {pointer:#x}: {}", why.describe(pointer, Some(maxphyaddr)))
            })?;
            ept.walk(&entries, gpa, &access)
        }
        Vendor::Svm => {
            // Whatever KVM has made, the CPU walks NPT as the host's own tables (APM Vol. 2 §15.25.3).
            let la57 = known.facts().and_then(|facts| facts.hardware.host_la57.value());
            let walked = la57.map_or(level, |la57| if la57 { 5 } else { 4 });
            if walked != level {
                return Err(format!("the CPU walks {walked} levels of NPT, the root has {level}"));
            }
            // KVM does not start without NX, and asks for pages of 1 GiB only where there are any.
            let cpu = NptCpu {
                maxphyaddr,
                nxe: true,
                la57: level == 5,
                gbpages: true,
                ..NptCpu::default()
            };
            Npt::new(root, &cpu).walk(&entries, gpa, &access)
        }
        Vendor::Other(module) => return Err(format!("how {module} maps memory is not known")),
        Vendor::None => return Err("no vendor module was loaded".to_owned()),
    };
    let last = walked.trail.last().map_or(0, |step| step.entry);
    let is_mmio = matches!(&mmio, Ok(Some(mmio)) if mmio.has(last));
    let end = match walked.outcome {
        // KVM marks MMIO by what its own idea of the CPU refuses: first of all it is MMIO.
        _ if is_mmio => End::Mmio,
        Outcome::Translation(translation) => End::Mapped(translation),
        Outcome::Misconfiguration { reasons, .. } => End::Refused(Some(reasons)),
        Outcome::NestedFault(fault) if fault.exitinfo1 & RESERVED != 0 => End::Refused(None),
        Outcome::NestedFault(fault) if fault.level.is_none() => End::TooWide,
        Outcome::Violation(violation) if violation.level.is_none() => End::TooWide,
        Outcome::Violation(_) | Outcome::NestedFault(_) if is_present(last, known) => End::Denied,
        Outcome::Violation(_) | Outcome::NestedFault(_) => End::Absent(Absent::of(last)),
        Outcome::GpaNotRepresentable => End::TooWide,
        Outcome::NotInDump { .. } => End::Cut,
        Outcome::SubPage(_) | Outcome::LogFull => End::Denied,
    };
    let is_surely_no_mmio = mmio.is_ok() || *known.vendor() == Vendor::Vmx && last & 7 != EPT_MMIO;
    match missing {
        Some(missing) if !(matches!(end, End::Refused(_)) && is_surely_no_mmio) => Err(missing),
        _ => Ok(Translated { trail: walked.trail, end }),
    }
}

const WHOSE: &str = "whether the entries are EPT's or NPT's is not known (--kernel-facts FILE; of EPT, --ept-cap HEX)";

/// A table for the first entry of a walk that was printed without its root, and its level: one that no
/// entry leads to, and that is not shown to anybody.
fn printed_root(walk: &Walk, known: &Known) -> Result<(u64, u8), String> {
    let entries = &walk.entries[..walk.entries.len().min(MOST_LEVELS)];
    if entries.is_empty() {
        return Err("root.hpa could not be read".to_owned());
    }
    if known.facts().is_none() {
        return Err(WHOSE.to_owned());
    }
    let level = walk.root_level.ok_or("the root level could not be read")?;
    if known.tdp_enabled(&walk.inputs).value() == Some(false) || !matches!(level, 4 | 5) {
        return Err(format!("the entries, from level {level} down, are of shadow paging"));
    }
    let address = ADDRESS & !known.encryption_mask();
    let is_free = |page: &u64| entries.iter().all(|entry| entry & address != *page);
    // Of six pages one is free.
    let root = (0..6).map(|frame| frame << 12).find(is_free).unwrap_or_default();
    Ok((root, level))
}

/// Whether the hardware takes an entry for present.
fn is_present(entry: u64, known: &Known) -> bool {
    let bits = if *known.vendor() == Vendor::Svm { 1 } else { 7 };
    entry & bits != 0
}

/// The access that faulted, by `PFERR_*`.
fn access(error_code: u64) -> Access {
    if error_code & PFERR_FETCH != 0 {
        Access::FETCH
    } else if error_code & PFERR_WRITE != 0 {
        Access::WRITE
    } else {
        Access::READ
    }
}

/// The entries of a walk, where they were read.
struct Captured<'a> {
    entries: &'a [u64],
    places: [u64; MOST_LEVELS],
    /// Bits of an address that encrypt and do not address.
    mask: u64,
}

impl<'a> Captured<'a> {
    fn new(walk: &'a Walk, root: u64, level: u8, mask: u64) -> Self {
        let mut places = [0; MOST_LEVELS];
        let mut table = root;
        let levels = (1..=level.min(5)).rev();
        for ((place, entry), level) in places.iter_mut().zip(&walk.entries).zip(levels) {
            let index = walk.gpa >> (3 + 9 * u32::from(level)) & INDEX;
            *place = (table & eptp::ADDRESS & !mask) + index * 8;
            table = entry & ADDRESS;
        }
        Self { entries: &walk.entries, places, mask }
    }
}

impl PhysRead for Captured<'_> {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        let mut read = self.places.iter().zip(self.entries);
        // Without what encrypts, which may be above MAXPHYADDR and is not reserved.
        read.find(|(place, _)| **place == at.0).map(|(_, entry)| entry & !self.mask)
    }
}
