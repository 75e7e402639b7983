//! What a vCPU does: `arch/x86/kvm/trace.h`.

use super::super::cursor::Cursor;
use super::Flaw::{self, Malformed};
use super::fields::{self, Bare, Radix};
use super::{may, must};
use crate::source::trace::Tracepoint;

const VMX: u8 = 1;
const SVM: u8 = 2;

/// `vcpu 0`, `vcpu 0, rip 0x1000`, and more behind it.
pub fn entry(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let vcpu = match vcpu(&mut Cursor(payload)) {
        Some(vcpu) => vcpu,
        None => must(fields::read(payload, bare, [(b"vcpu_id", Radix::Decimal)])?[0])?,
    };
    Ok(Tracepoint::Entry { vcpu: Some(vcpu) })
}

/// `vcpu 0 reason npf rip 0x1000 ...`; before 5.4, and from the plugin of trace-cmd, without the vCPU.
pub fn exit(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let mut text = Cursor(payload);
    let vcpu = if payload.starts_with(b"vcpu ") {
        let vcpu = vcpu(&mut text).ok_or(Malformed)?;
        text.spaces();
        Some(vcpu)
    } else {
        None
    };
    if text.literal(b"reason ").is_some() {
        return Ok(Tracepoint::Exit { vcpu, isa: isa(text.word()) });
    }
    let wanted: [fields::Wanted<'_>; 2] = [(b"vcpu_id", Radix::Decimal), (b"isa", Radix::Decimal)];
    let [vcpu, isa] = fields::read(payload, bare, wanted)?;
    let isa = must(isa)?;
    if !matches!(isa, VMX | SVM) {
        return Err(Malformed);
    }
    Ok(Tracepoint::Exit { vcpu: may(vcpu)?, isa: Some(isa) })
}

/// The kernel has names in capitals for VMX, and in small letters for SVM. The plugin has those of
/// SVM as `EXIT_NPF`. A reason that has no name proves nothing.
fn isa(reason: &[u8]) -> Option<u8> {
    match reason {
        [b'a'..=b'z', ..] => Some(SVM),
        reason if reason.starts_with(b"EXIT_") => Some(SVM),
        reason if reason.starts_with(b"UNKNOWN") => None,
        [b'A'..=b'Z', ..] => Some(VMX),
        _ => None,
    }
}

/// `vcpu 0 rip 0x1000 address 0x0000000000001000 error_code 0x100000014`; before 6.1
/// `address 1000 error_code 14`.
pub fn page_fault(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    if payload.starts_with(b"vcpu ") || payload.starts_with(b"address ") {
        return page_fault_text(payload).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 3] =
        [(b"vcpu_id", Radix::Decimal), (b"fault_address", Radix::Hex), (b"error_code", Radix::Hex)];
    let [vcpu, address, error_code] = fields::read(payload, bare, wanted)?;
    Ok(Tracepoint::PageFault {
        vcpu: may(vcpu)?,
        gpa: must(address)?,
        error_code: must(error_code)?,
    })
}

fn page_fault_text(payload: &[u8]) -> Option<Tracepoint> {
    let mut text = Cursor(payload);
    let vcpu = if payload.starts_with(b"vcpu ") {
        let vcpu = vcpu(&mut text)?;
        text.literal(b" rip ")?;
        text.hex_word()?;
        text.literal(b" ")?;
        Some(vcpu)
    } else {
        None
    };
    text.literal(b"address ")?;
    let gpa = text.hex_word()?;
    text.literal(b" error_code ")?;
    Some(Tracepoint::PageFault { vcpu, gpa, error_code: text.hex_word()? })
}

/// `func 80000008 idx 0 rax 3030 rbx ...`; before 5.7 without the index.
pub fn cpuid(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    let text = || {
        let mut text = Cursor(payload);
        text.literal(b"func ")?;
        let function = text.hex_word()?;
        if text.literal(b" idx ").is_some() {
            text.hex_word()?;
        }
        text.literal(b" rax ")?;
        Some((function, text.hex_word()?))
    };
    let (function, eax) = if payload.starts_with(b"func ") {
        text().ok_or(Malformed)?
    } else {
        let wanted: [fields::Wanted<'_>; 2] = [(b"function", Radix::Hex), (b"rax", Radix::Hex)];
        let [function, rax] = fields::read(payload, bare, wanted)?;
        (must(function)?, must(rax)?)
    };
    Ok(Tracepoint::Cpuid { function: must(Some(function))?, eax: must(Some(eax))? })
}

/// `vcpu=0 prev=0 next=18446744041730434628`, all decimal.
pub fn tsc_offset(payload: &[u8]) -> Result<Tracepoint, Flaw> {
    let text: [fields::Wanted<'_>; 2] = [(b"vcpu", Radix::Decimal), (b"prev", Radix::Decimal)];
    let names: [fields::Wanted<'_>; 2] =
        [(b"vcpu_id", Radix::Decimal), (b"previous_tsc_offset", Radix::Decimal)];
    let wanted = if payload.starts_with(b"vcpu=") { text } else { names };
    let [vcpu, previous] = fields::read(payload, Bare::Decimal, wanted)?;
    Ok(Tracepoint::WriteTscOffset { vcpu: must(vcpu)?, previous: must(previous)? })
}

/// `rip: 0x... vmcs: 0x... ... nested_ept=y nested_eptp: 0x...`, or `vmcb`, `nested_npt` and
/// `nested_cr3`; the last is `guest_cr3` where L1 has neither. As `kvm_nested_vmrun`, of SVM alone, it
/// ends in `npt: on`.
pub fn nested_enter(payload: &[u8], bare: Bare) -> Result<Tracepoint, Flaw> {
    if payload.starts_with(b"rip: ") {
        return nested_enter_text(payload).ok_or(Malformed);
    }
    let wanted: [fields::Wanted<'_>; 4] = [
        (b"tdp_enabled", Radix::Decimal),
        (b"isa", Radix::Decimal),
        (b"guest_pgd", Radix::Hex),
        (b"npt", Radix::Decimal),
    ];
    let [tdp_enabled, isa, pgd, npt] = fields::read(payload, bare, wanted)?;
    let has_tdp = must::<u8>(tdp_enabled.or(npt))? != 0;
    let is_ept = match isa.map(u8::try_from) {
        Some(Ok(isa @ (VMX | SVM))) => isa == VMX,
        None if npt.is_some() => false,
        _ => return Err(Malformed),
    };
    Ok(Tracepoint::NestedEnter { pgd: pgd.filter(|_| has_tdp), is_ept: has_tdp.then_some(is_ept) })
}

fn nested_enter_text(payload: &[u8]) -> Option<Tracepoint> {
    let mut text = Cursor(payload);
    while !text.0.is_empty() {
        let word = text.word();
        text.spaces();
        let is_ept = match word {
            b"nested_eptp:" => true,
            b"nested_cr3:" => false,
            b"guest_cr3:" => {
                text.hex_word()?;
                return Some(Tracepoint::NestedEnter { pgd: None, is_ept: None });
            }
            b"npt:" => {
                let is_ept = match text.word() {
                    b"on" => Some(false),
                    b"off" => None,
                    _ => return None,
                };
                return Some(Tracepoint::NestedEnter { pgd: None, is_ept });
            }
            _ => continue,
        };
        let pgd = text.hex_word()?;
        return Some(Tracepoint::NestedEnter { pgd: Some(pgd), is_ept: Some(is_ept) });
    }
    None
}

/// `vcpu 0`.
fn vcpu(text: &mut Cursor<'_>) -> Option<u32> {
    text.literal(b"vcpu ")?;
    u32::try_from(text.decimal_word()?).ok()
}
