//! The oracle, set up as a case sets up the CPU.

use std::collections::BTreeMap;

use ept_trace::ept::{
    Access, Controls, Cpu, Ept, EptCapability, InvalidPointer, Npt, NptCpu, PhysRead, Walk,
};
use ept_trace::model::{Gpa, Hpa};
use walker::protocol::{MBE, Machine, VE};

use super::case::Case;
use super::memory::Memory;

/// What EPT and NPT have in common.
pub enum Tables {
    /// EPT.
    Ept(Ept),
    /// NPT.
    Npt(Npt),
}

impl Tables {
    /// By the case's pointer; what is wrong with it, if VM entry refuses it.
    pub fn new(
        case: &Case,
        machine: &Machine,
        pml_index: Option<u16>,
    ) -> Result<Self, InvalidPointer> {
        if case.is_npt {
            return Ok(Self::Npt(Npt::new(case.pointer, &npt_cpu(case, machine))));
        }
        let has = |control| case.control & control != 0;
        let cpu = Cpu {
            capability: EptCapability(machine.capability),
            maxphyaddr: maxphyaddr(machine),
            tme_keyid_bits: 0,
            controls: Controls { mbe: has(MBE), ve: has(VE), pml_index, ..Controls::default() },
        };
        Ept::new(case.pointer, &cpu).map(Self::Ept)
    }

    /// Walks for an access to a GPA.
    pub fn walk(&self, memory: &Seen<'_>, gpa: u64, access: &Access) -> Walk {
        match self {
            Self::Ept(ept) => ept.walk(memory, Gpa(gpa), access),
            Self::Npt(npt) => npt.walk(memory, Gpa(gpa), access),
        }
    }

    /// The accessed and the dirty flag of an entry.
    pub fn flags(&self) -> (u64, u64) {
        match self {
            Self::Ept(_) => (1 << 8, 1 << 9),
            Self::Npt(_) => (1 << 5, 1 << 6),
        }
    }
}

/// Memory as the CPU sees it.
pub struct Seen<'a> {
    /// What is there.
    pub memory: &'a Memory,
    /// Bits of entries that it does not look at, by the entry's address.
    pub unseen: &'a BTreeMap<u64, u64>,
}

impl PhysRead for Seen<'_> {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        Some(self.memory.word(at.0)? & !self.unseen.get(&at.0).copied().unwrap_or(0))
    }
}

fn npt_cpu(case: &Case, machine: &Machine) -> NptCpu {
    NptCpu {
        maxphyaddr: maxphyaddr(machine),
        nxe: case.control != 0,
        la57: machine.levels == 5,
        smep: false,
        gbpages: machine.gbpages != 0,
        gmet: false,
    }
}

/// At most 52.
fn maxphyaddr(machine: &Machine) -> u8 {
    machine.maxphyaddr.to_le_bytes()[0]
}
