//! Exit qualifications: SDM table 30-7 for EPT violations, 30.2.1 for SPP-related events.

use super::access::{Access, Kind, Stage};
use super::bits::when;
use super::entry::{SHADOW_STACK_PAGE, SUPPRESS_VE};
use super::{Convertible, Ept, EptCapability, GuestLeaf, Outcome, Rights, Violation};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 2;
/// What the entries allow: bits 5:3 and, for user-mode execution, 6.
const RIGHTS: u32 = 3;
const USER_EXECUTE: u64 = 1 << 6;
const LINEAR_ADDRESS: u64 = 1 << 7;
const FINAL: u64 = 1 << 8;
const GUEST_USER: u64 = 1 << 9;
const GUEST_WRITABLE: u64 = 1 << 10;
const GUEST_NX: u64 = 1 << 11;
const NMI_UNBLOCKING: u64 = 1 << 12;
const SHADOW_STACK: u64 = 1 << 13;
const SUPERVISOR_SHADOW_STACK: u64 = 1 << 14;
const GUEST_PAGING_VERIFICATION: u64 = 1 << 15;
const ASYNCHRONOUS: u64 = 1 << 16;
/// SPP-related event: the SPP table has no vector.
const SPP_MISS: u64 = 1 << 11;

/// Defined in every EPT violation.
const ALWAYS: u64 = READ
    | WRITE
    | FETCH
    | 7 << RIGHTS
    | LINEAR_ADDRESS
    | FINAL
    | NMI_UNBLOCKING
    | SHADOW_STACK
    | GUEST_PAGING_VERIFICATION
    | ASYNCHRONOUS;

/// Why an access is a violation.
pub(super) enum Denial {
    /// The address needs more than 4 levels.
    TooWide,
    /// An entry is not present.
    NotPresent { entry: u64, level: u8 },
    /// The leaf was reached, and rights are missing or guest-paging verification failed.
    Rights { entry: u64, level: u8, rights: Rights, unverified: bool },
}

impl Ept {
    /// The EPT violation of an access, or the #VE.
    pub(super) fn violation(&self, access: &Access, denial: &Denial) -> Outcome {
        let (level, deciding, leaf, rights, unverified) = match *denial {
            Denial::TooWide => (None, None, None, Rights::empty(), false),
            Denial::NotPresent { entry, level } => {
                (Some(level), Some(entry), None, Rights::empty(), false)
            }
            Denial::Rights { entry, level, rights, unverified } => {
                (Some(level), Some(entry), Some(entry), rights, unverified)
            }
        };
        let linear = access.gla_valid && access.stage != Stage::PdpteLoad;
        let is_final = access.stage.is_final();
        let guest = self.advanced_information(access).filter(|_| linear && is_final);
        let page = leaf.filter(|_| self.shadow_stack);
        let bits = self.attempted(access)
            | u64::from(rights.bits()) << RIGHTS
            | when(linear, LINEAR_ADDRESS)
            | when(linear && is_final, FINAL)
            | guest.map_or(0, guest_leaf)
            | when(access.iret_nmi_unblock, NMI_UNBLOCKING)
            | when(is_final && access.shadow_stack.is_some(), SHADOW_STACK)
            | when(page.is_some_and(|it| it & SHADOW_STACK_PAGE != 0), SUPERVISOR_SHADOW_STACK)
            | when(unverified, GUEST_PAGING_VERIFICATION)
            | when(access.stage == Stage::Asynchronous, ASYNCHRONOUS);
        let mask = ALWAYS & !self.undefined(access)
            | when(self.cpu.controls.mbe, USER_EXECUTE)
            | when(guest.is_some(), GUEST_USER | GUEST_WRITABLE | GUEST_NX)
            | when(page.is_some(), SUPERVISOR_SHADOW_STACK);
        Outcome::Violation(Violation {
            level,
            qualification: bits & mask,
            mask,
            convertible: self.convertible(deciding),
        })
    }

    /// The qualification of an SPP-related event, and its defined bits.
    pub(super) fn sub_page_qualification(&self, access: &Access, miss: bool) -> (u64, u64) {
        let bits = when(miss, SPP_MISS) | when(access.iret_nmi_unblock, NMI_UNBLOCKING);
        let mask = (SPP_MISS | NMI_UNBLOCKING) & !self.undefined(access);
        (bits & mask, mask)
    }

    /// Bits 2:0.
    fn attempted(&self, access: &Access) -> u64 {
        match access.stage {
            Stage::GuestTableRead | Stage::GuestTableUpdate if self.accessed_dirty => READ | WRITE,
            Stage::GuestTableRead | Stage::PdpteLoad => READ,
            Stage::GuestTableUpdate => WRITE,
            Stage::Final | Stage::Asynchronous => match access.kind {
                Kind::Read => READ,
                Kind::Write | Kind::ReadModifyWrite => WRITE,
                Kind::Fetch => FETCH,
            },
        }
    }

    /// Bits that are usually defined and are not in this case.
    fn undefined(&self, access: &Access) -> u64 {
        // A read-modify-write may be reported as a read as well. The flags of the guest's tables
        // are set by one.
        let read_modify_write = match access.stage {
            Stage::GuestTableUpdate => !self.accessed_dirty,
            Stage::Final | Stage::Asynchronous => access.kind == Kind::ReadModifyWrite,
            Stage::GuestTableRead | Stage::PdpteLoad => false,
        };
        let controls = &self.cpu.controls;
        let nmis = controls.nmi_exiting && !controls.virtual_nmis || access.event_delivery;
        when(read_modify_write, READ) | when(nmis, NMI_UNBLOCKING)
    }

    /// What bits 11:9 tell, where they are defined and it is known.
    fn advanced_information(&self, access: &Access) -> Option<GuestLeaf> {
        if !self.cpu.capability.has(EptCapability::ADVANCED_EXIT_INFORMATION) {
            None
        } else if access.paging {
            access.guest_leaf
        } else {
            Some(GuestLeaf { user: true, writable: true, nx: false })
        }
    }

    /// 28.5.8.1: the one entry that decides has a say, present or not.
    fn convertible(&self, deciding: Option<u64>) -> Convertible {
        match deciding {
            _ if !self.cpu.controls.ve => Convertible::No,
            None => Convertible::Unspecified,
            Some(entry) if entry & SUPPRESS_VE != 0 => Convertible::No,
            Some(_) => Convertible::Yes,
        }
    }
}

fn guest_leaf(leaf: GuestLeaf) -> u64 {
    when(leaf.user, GUEST_USER) | when(leaf.writable, GUEST_WRITABLE) | when(leaf.nx, GUEST_NX)
}
