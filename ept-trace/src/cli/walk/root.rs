//! What the walk begins at: an EPTP or an nCR3, on a CPU.

use crate::ept::{
    Access, Controls, Cpu, EntryBits, Ept, EptCapability, Npt, NptCpu, Outcome, PhysRead, Rights,
    Walk,
};
use crate::model::{Gpa, Hpa};

/// The CPU, as far as it is known, and what of it is not.
pub(super) struct TheCpu {
    /// MAXPHYADDR, in bits.
    pub maxphyaddr: u8,
    pub capability: EptCapability,
    /// Mode-based execute control.
    pub mbe: bool,
    /// Levels of an NPT, if they are known.
    pub levels: Option<u8>,
    /// What nobody said.
    pub assumed: Vec<String>,
}

/// An EPTP or an nCR3.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pointer {
    Eptp(u64),
    Ncr3(u64),
}

impl Pointer {
    /// The register's value.
    pub(super) fn value(self) -> u64 {
        match self {
            Self::Eptp(value) | Self::Ncr3(value) => value,
        }
    }

    /// The address of the root table, bits 51:12.
    fn table(self) -> Hpa {
        Hpa(self.value() & 0xf_ffff_ffff_f000)
    }
}

/// Why there is nothing to walk.
pub(super) enum Refused {
    /// VM entry refuses the EPTP.
    Pointer(String),
    /// The arguments do not say enough.
    Usage(String),
}

enum Format {
    Ept(Ept),
    Npt(Npt),
}

/// The root of a table that can be walked.
pub(super) struct Root {
    format: Format,
    /// As it was given.
    pub pointer: Pointer,
    /// 4 or 5.
    pub levels: u8,
    /// Bits of the guest-physical addresses that there are.
    pub gpa_width: u8,
    pub mbe: bool,
    /// What nobody said.
    pub assumed: Vec<String>,
}

impl Root {
    /// The root. Where the levels of an NPT are not known they are those with which `gpa`
    /// translates, if it does with but one number of levels.
    pub(super) fn new(
        pointer: Pointer,
        cpu: &TheCpu,
        memory: &impl PhysRead,
        gpa: Option<Gpa>,
    ) -> Result<Self, Refused> {
        match pointer {
            Pointer::Eptp(eptp) => Self::of_ept(eptp, cpu),
            Pointer::Ncr3(_) => match (cpu.levels, gpa) {
                (Some(levels), _) => Ok(Self::of_npt(pointer, cpu, levels)),
                (None, Some(gpa)) => Self::of_npt_that_translates(pointer, cpu, memory, gpa),
                (None, None) => Err(Refused::Usage(UNKNOWN_LEVELS.to_owned())),
            },
        }
    }

    fn of_ept(eptp: u64, cpu: &TheCpu) -> Result<Self, Refused> {
        let controls = Controls { mbe: cpu.mbe, ..Controls::default() };
        let maxphyaddr = cpu.maxphyaddr;
        let cpu_of_ept = Cpu { capability: cpu.capability, maxphyaddr, controls, ..Cpu::default() };
        let ept = Ept::new(eptp, &cpu_of_ept).map_err(|wrong| {
            let mut why = wrong.describe(eptp, Some(cpu_of_ept.hpa_width()));
            if eptp.is_multiple_of(4096) {
                why.push_str(
                    " (a table's address alone is no EPTP: add 0x1e for 4 levels, write-back, or \
                     0x26 for 5, and 0x40 with accessed and dirty flags)",
                );
            }
            Refused::Pointer(why)
        })?;
        // Bits 5:3; only 3 and 4 are valid.
        let levels = if eptp >> 3 & 7 == 4 { 5 } else { 4 };
        let (pointer, assumed) = (Pointer::Eptp(eptp), cpu.assumed.clone());
        let gpa_width = width(maxphyaddr, levels);
        Ok(Self { format: Format::Ept(ept), pointer, levels, gpa_width, mbe: cpu.mbe, assumed })
    }

    fn of_npt(pointer: Pointer, cpu: &TheCpu, levels: u8) -> Self {
        let cpu_of_npt = NptCpu {
            maxphyaddr: cpu.maxphyaddr,
            // Linux has both wherever KVM runs on AMD.
            nxe: true,
            gbpages: true,
            la57: levels == 5,
            ..NptCpu::default()
        };
        Self {
            format: Format::Npt(Npt::new(pointer.value(), &cpu_of_npt)),
            pointer,
            levels,
            gpa_width: width(cpu.maxphyaddr, levels),
            mbe: false,
            assumed: cpu.assumed.clone(),
        }
    }

    fn of_npt_that_translates(
        pointer: Pointer,
        cpu: &TheCpu,
        memory: &impl PhysRead,
        gpa: Gpa,
    ) -> Result<Self, Refused> {
        let roots = [5, 4].map(|levels| Self::of_npt(pointer, cpu, levels));
        let walks = roots.each_ref().map(|root| root.walk(memory, gpa, &Access::READ));
        let translates = |walk: &Walk| matches!(walk.outcome, Outcome::Translation(_));
        let [five, four] = roots;
        let (mut root, why) = match walks.each_ref().map(translates) {
            [true, false] => (five, "as only with them the address is mapped"),
            [false, true] => (four, "as only with them the address is mapped"),
            // Not even the root is there: it is the same with either.
            [false, false] if walks.iter().all(|walk| walk.trail.is_empty()) => {
                (five, "at a guess")
            }
            _ => return Err(Refused::Usage(UNKNOWN_LEVELS.to_owned())),
        };
        root.assumed.push(format!("{} levels, {why} (--levels says otherwise)", root.levels));
        Ok(root)
    }

    /// Walks to an address.
    pub(super) fn walk(&self, memory: &impl PhysRead, gpa: Gpa, access: &Access) -> Walk {
        match &self.format {
            Format::Ept(ept) => ept.walk(memory, gpa, access),
            Format::Npt(npt) => npt.walk(memory, gpa, access),
        }
    }

    /// The bits of an entry at a level, by name.
    pub(super) fn describe(&self, entry: u64, level: u8) -> EntryBits {
        match &self.format {
            Format::Ept(ept) => ept.describe(entry, level),
            Format::Npt(npt) => npt.describe(entry, level),
        }
    }

    /// What an entry alone allows.
    pub(super) fn rights(&self, entry: u64) -> Rights {
        let bit = |bit: u32| entry >> bit & 1 != 0;
        let bits = match &self.format {
            Format::Ept(_) => [bit(0), bit(1), bit(2), self.mbe && bit(10)],
            Format::Npt(_) => [bit(0), bit(1), !bit(63) && bit(0), bit(2)],
        };
        let rights = [Rights::READ, Rights::WRITE, Rights::EXECUTE, Rights::USER];
        rights.into_iter().zip(bits).filter(|(_, is_set)| *is_set).map(|(right, _)| right).collect()
    }

    /// Whether it is AMD's.
    pub(super) fn is_npt(&self) -> bool {
        matches!(self.format, Format::Npt(_))
    }

    /// The address of the root table.
    pub(super) fn table(&self) -> Hpa {
        self.pointer.table()
    }

    /// The name of an entry of this level, the vendor's own.
    pub(super) fn entry_name(&self, level: u8) -> &'static str {
        match level {
            1 => "PTE",
            2 => "PDE",
            3 if self.is_npt() => "PDPE",
            3 => "PDPTE",
            4 => "PML4E",
            _ => "PML5E",
        }
    }
}

const UNKNOWN_LEVELS: &str = "an nCR3 does not say how many levels its table has: give --levels 5 \
    if the host has CR4.LA57 (5-level paging), else --levels 4";

/// Bits of the addresses that both the CPU and so many levels have.
fn width(maxphyaddr: u8, levels: u8) -> u8 {
    maxphyaddr.min(if levels == 5 { 57 } else { 48 })
}
