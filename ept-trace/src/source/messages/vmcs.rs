//! `dump_vmcs`: what the kernel prints of a VMCS after an entry that failed or an exit that nobody
//! expected, with `kvm_intel.dump_invalid_vmcs=1`.
//!
//! The lines that matter, in their order. All but the first, the last and the two for #VE are the
//! same from 4.14 to 7.2; since 5.14 the first names the VMCS; the last is there with VPID, those for
//! #VE since 6.11 with `CONFIG_KVM_INTEL_PROVE_VE`. `%p` is hashed.
//!
//! ```text
//! VMCS 00000000336523a9, last attempted VM-entry on CPU 8
//! *** Guest State ***
//!         reason=80000021 qualification=0000000000000000
//! EPT pointer = 0x0000000299e9305e
//! Virtual processor ID = 0x0001
//! VE info address = 0x000000012a5b3000
//! ve_info: 0x00000030 0xffffffff 0x0000000000000181 0x0000000000000000 0x00000000fee00000 0x0000
//! ```

use super::gather::{Begun, Gather, Step};
use super::scan::{after, begins_with_one_of, hex};
use crate::model::{EventKind, VmcsDump};

const VMCS: &[u8] = b"VMCS ";
const EPTP: &[u8] = b"EPT pointer =";
/// Only a dump has lines that begin so.
const HEADS: &[&[u8]] = &[VMCS, EPTP];
/// The basic exit reason of an EPT violation.
const EPT_VIOLATION: u64 = 48;

/// A dump, as far as it was seen.
#[derive(Debug, Default)]
struct Dump {
    seen: VmcsDump,
    /// `*** Guest State ***` was printed.
    has_guest: bool,
    /// The line after which only those for #VE come.
    has_vpid: bool,
}

/// A line of a dump.
#[derive(Clone, Copy)]
enum Field {
    Vmcs(Option<u64>),
    Guest,
    Exit { reason: u32, qualification: Option<u64> },
    Qualification(u64),
    Eptp(u64),
    Vpid,
    VeAddress,
    VeInfo { gpa: Option<u64> },
}

/// Begins a dump: with its head, or, where that is missing, with a field that only a dump has.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    let field = match field(message)? {
        Ok(field) => field,
        // Others print a `reason=` as well.
        Err(why) => return begins_with_one_of(message, HEADS).then_some(Begun::Bad(why)),
    };
    let begins = match field {
        Field::Vmcs(_) | Field::Guest | Field::Eptp(_) => true,
        Field::Exit { qualification, .. } => qualification.is_some(),
        _ => false,
    };
    begins.then(|| {
        let mut dump = Dump::default();
        dump.put(field);
        Begun::Open(Box::new(dump))
    })
}

impl Gather for Dump {
    fn take(&mut self, message: &[u8]) -> Step {
        match field(message) {
            Some(Ok(field)) if self.has(field) => Step::Over,
            Some(Ok(field)) => self.put(field),
            Some(Err(why)) => Step::Bad(why),
            None if self.has_vpid => Step::Over,
            None => Step::Foreign,
        }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        let is_empty = self.seen == VmcsDump::default();
        if is_empty { vec![] } else { vec![EventKind::VmcsDump(self.seen)] }
    }
}

impl Dump {
    /// Whether this line was there already, so that another dump has begun.
    fn has(&self, field: Field) -> bool {
        let seen = &self.seen;
        match field {
            Field::Vmcs(_) => true,
            Field::Guest => self.has_guest,
            Field::Exit { .. } => seen.exit_reason.is_some(),
            Field::Qualification(_) => seen.exit_qualification.is_some(),
            Field::Eptp(_) => seen.eptp.is_some(),
            Field::Vpid => self.has_vpid,
            Field::VeAddress | Field::VeInfo { .. } => false,
        }
    }

    fn put(&mut self, field: Field) -> Step {
        let seen = &mut self.seen;
        match field {
            Field::Vmcs(vmcs) => seen.vmcs = vmcs,
            Field::Guest => self.has_guest = true,
            Field::Exit { reason, qualification } => {
                seen.exit_reason = Some(reason);
                seen.exit_qualification = qualification;
            }
            Field::Qualification(qualification) => seen.exit_qualification = Some(qualification),
            Field::Eptp(eptp) => seen.eptp = Some(eptp),
            Field::Vpid => self.has_vpid = true,
            Field::VeAddress => {}
            Field::VeInfo { gpa } => {
                seen.gpa = gpa;
                return Step::Last;
            }
        }
        Step::More
    }
}

/// The field of a line, if it has one that matters.
fn field(message: &[u8]) -> Option<Result<Field, &'static str>> {
    // Quoted mail breaks the line between the two.
    if let Some(rest) = message.strip_prefix(b"reason=") {
        return Some(exit(rest).ok_or("the exit reason of a VMCS is no number"));
    }
    if let Some(rest) = message.strip_prefix(b"qualification=") {
        let qualification = hex(rest).map(|(value, _)| Field::Qualification(value));
        return Some(qualification.ok_or("the exit qualification of a VMCS is no number"));
    }
    if let Some(rest) = message.strip_prefix(EPTP) {
        let eptp = hex(rest.trim_ascii_start()).map(|(value, _)| Field::Eptp(value));
        return Some(eptp.ok_or("the EPT pointer of a VMCS is no number"));
    }
    if let Some(rest) = message.strip_prefix(b"ve_info: ") {
        return Some(ve_info(rest).ok_or("the #VE information of a VMCS is not its six numbers"));
    }
    if let Some(rest) = message.strip_prefix(VMCS) {
        after(rest, b", last attempted VM-entry on CPU")?;
        let vmcs = hex(rest).map(|(value, _)| Field::Vmcs(Some(value)));
        // Early at boot there is nothing yet to hash an address with.
        let hidden = rest.starts_with(b"(").then_some(Field::Vmcs(None));
        return Some(vmcs.or(hidden).ok_or("the address of a VMCS is no number"));
    }
    let field = match message {
        b"*** Guest State ***" => Field::Guest,
        _ if message.starts_with(b"Virtual processor ID = ") => Field::Vpid,
        _ if message.starts_with(b"VE info address = ") => Field::VeAddress,
        _ => return None,
    };
    Some(Ok(field))
}

fn exit(text: &[u8]) -> Option<Field> {
    let (reason, rest) = hex(text)?;
    let reason = u32::try_from(reason).ok()?;
    let qualification = match rest.trim_ascii_start().strip_prefix(b"qualification=") {
        Some(rest) => Some(hex(rest)?.0),
        None => None,
    };
    Some(Field::Exit { reason, qualification })
}

/// `struct vmx_ve_information`: reason, whether it is delivered, qualification, the linear and the
/// guest-physical address, the EPTP's index.
fn ve_info(text: &[u8]) -> Option<Field> {
    let mut words = text.split(|byte| *byte == b' ').map(|word| hex(word).map(|(value, _)| value));
    let mut word = || words.next().flatten();
    let (reason, _delivered, _qualification, _linear) = (word()?, word()?, word()?, word()?);
    let gpa = word()?;
    Some(Field::VeInfo { gpa: (reason == EPT_VIOLATION).then_some(gpa) })
}
