//! What the hardware would do with a table: EPT (SDM Vol. 3C ch. 31) and NPT.
//!
//! [`Ept::new`] is VM entry's check of the EPTP; [`Ept::walk`] the exact walk with its trail;
//! [`Ept::translate`] the same answer sooner and without the trail. [`Npt`] is AMD's. Only hardware
//! is here: what KVM itself makes of an entry (MMIO, frozen) is not.
//!
//! Sections of the SDM are numbered as in revision 325462-092 (June 2026).

mod access;
mod batch;
mod bits;
mod capability;
mod cpu;
mod entry;
mod fast;
mod memory_type;
mod npt;
mod outcome;
mod phys;
mod pointer;
mod qualification;
pub mod vector;
mod walk;

#[cfg(test)]
mod tests;

pub use access::{Access, GuestLeaf, Kind, ShadowStack, Stage};
pub use capability::EptCapability;
pub use cpu::{Controls, Cpu};
pub use entry::{EntryBits, Misconfiguration};
pub use memory_type::{Guest, LeafMemory, MemoryType, Pat};
pub use npt::{Npt, NptCpu};
pub use outcome::{
    Convertible, NestedFault, Outcome, Rights, Step, SubPageEvent, Trail, Translation, Via,
    Violation, Walk,
};
pub use phys::PhysRead;
pub use pointer::InvalidPointer;
pub use walk::Ept;
