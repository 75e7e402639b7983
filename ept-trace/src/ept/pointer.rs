//! The EPT pointer at VM entry: SDM 29.2.1.1.

use bitflags::bitflags;
use ept_trace_common::eptp::{ACCESSED_DIRTY, MEMORY_TYPE_WB, walk_length};

use super::bits::when;
use super::cpu::WIDEST;
use super::{Cpu, EptCapability};

/// Bits 11:8.
const RESERVED: u64 = 0xf00;
/// Supervisor shadow-stack control (SDM table 27-9).
pub(super) const SHADOW_STACK: u64 = 1 << 7;

bitflags! {
    /// Why VM entry refuses an EPTP, with VM-instruction error 7.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InvalidPointer: u8 {
        /// Bits 2:0 are no memory type that the capability has.
        const MEMTYPE = 1 << 0;
        /// Bits 5:3 are no walk length that the capability has.
        const WALK_LENGTH = 1 << 1;
        /// Bit 6: accessed and dirty flags, without the capability.
        const AD_UNSUPPORTED = 1 << 2;
        /// Bit 7: supervisor shadow-stack control, without the capability.
        const SSS_UNSUPPORTED = 1 << 3;
        /// One of bits 11:8.
        const RESERVED_LOW = 1 << 4;
        /// A bit that the physical address width excludes.
        const ADDRESS_WIDTH = 1 << 5;
    }
}

impl InvalidPointer {
    /// Everything that is wrong with an EPTP; empty if VM entry accepts it.
    ///
    /// That memory is behind the address is not checked, here as in hardware.
    pub fn of(eptp: u64, cpu: &Cpu) -> Self {
        Self::reserved(eptp, Some(cpu.hpa_width())) | Self::not_offered(eptp, cpu.capability)
    }

    /// What is reserved on any CPU with physical addresses of this width, or of an unknown one.
    pub fn reserved(eptp: u64, hpa_width: Option<u8>) -> Self {
        let mut wrong = Self::empty();
        wrong.set(Self::RESERVED_LOW, eptp & RESERVED != 0);
        wrong.set(Self::ADDRESS_WIDTH, above_width(eptp, hpa_width) != 0);
        wrong
    }

    /// What this CPU does not offer.
    pub fn not_offered(eptp: u64, capability: EptCapability) -> Self {
        let memory_type = match eptp & 7 {
            0 => EptCapability::UNCACHEABLE,
            MEMORY_TYPE_WB => EptCapability::WRITE_BACK,
            _ => 0,
        };
        let length = match walk_length(eptp) {
            4 => EptCapability::WALK_4,
            5 => EptCapability::WALK_5,
            _ => 0,
        };
        let mut wrong = Self::empty();
        wrong.set(Self::MEMTYPE, !capability.has(memory_type));
        wrong.set(Self::WALK_LENGTH, !capability.has(length));
        wrong.set(
            Self::AD_UNSUPPORTED,
            eptp & ACCESSED_DIRTY != 0 && !capability.has(EptCapability::ACCESSED_DIRTY),
        );
        // 29.2.1.1 still has bit 7 among the reserved; table 27-9 and A.10 give it a meaning.
        wrong.set(
            Self::SSS_UNSUPPORTED,
            eptp & SHADOW_STACK != 0 && !capability.has(EptCapability::SHADOW_STACK),
        );
        wrong
    }

    /// In words, with the values of this EPTP.
    pub fn describe(self, eptp: u64, hpa_width: Option<u8>) -> String {
        let mut words = Vec::new();
        let reserved = when(self.contains(Self::RESERVED_LOW), eptp & RESERVED)
            | when(self.contains(Self::ADDRESS_WIDTH), above_width(eptp, hpa_width));
        if reserved != 0 {
            words.push(format!("reserved bits {reserved:#x} are set"));
        }
        if self.contains(Self::MEMTYPE) {
            words.push(format!("memory type {} is not offered", eptp & 7));
        }
        if self.contains(Self::WALK_LENGTH) {
            words.push(format!("a walk of {} levels is not offered", walk_length(eptp)));
        }
        if self.contains(Self::AD_UNSUPPORTED) {
            words.push("accessed and dirty flags are not offered".to_owned());
        }
        if self.contains(Self::SSS_UNSUPPORTED) {
            words.push("supervisor shadow-stack control is not offered".to_owned());
        }
        words.join(", ")
    }
}

/// The bits that are set above the width; none if that is unknown.
fn above_width(eptp: u64, width: Option<u8>) -> u64 {
    width.map_or(0, |bits| eptp & u64::MAX << bits.min(WIDEST))
}
