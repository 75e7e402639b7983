//! What is told of a tracepoint: the kernel's own text, in all its forms since 4.14
//! (`arch/x86/kvm/trace.h`, `mmu/mmutrace.h`), or [fields] by their names.
//!
//! [fields]: fields

mod fields;
mod mmu;
mod vcpu;

use super::line::Bad;
use crate::source::trace::Tracepoint;

pub use fields::Bare;

/// What is wrong with what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// It is not in a form that is known, or not all there.
    Malformed,
    /// A number may be decimal or hexadecimal.
    Radix,
    /// It was printed by a plugin that has the layout of a role wrong.
    Plugin,
}

/// Reads what is told of an event, of those that matter; nothing of others.
pub fn decode(name: &[u8], payload: &[u8], bare: Bare) -> Result<Option<Tracepoint>, Bad> {
    // Guards, for a pattern is compared byte by byte.
    let (name, decoded) = match name {
        _ if name == b"kvm_entry" => ("kvm_entry", vcpu::entry(payload, bare)),
        _ if name == b"kvm_exit" => ("kvm_exit", vcpu::exit(payload, bare)),
        _ if name == b"kvm_page_fault" => ("kvm_page_fault", vcpu::page_fault(payload, bare)),
        _ if name == b"kvm_tdp_mmu_spte_changed" => {
            ("kvm_tdp_mmu_spte_changed", mmu::spte_changed(payload, bare))
        }
        _ if name == b"kvm_mmu_get_page" => ("kvm_mmu_get_page", mmu::get_page(payload)),
        _ if name == b"kvm_mmu_prepare_zap_page" => {
            ("kvm_mmu_prepare_zap_page", mmu::prepare_zap(payload))
        }
        _ if name == b"kvm_mmu_set_spte" => ("kvm_mmu_set_spte", mmu::set_spte(payload, bare)),
        _ if name == b"kvm_mmu_spte_requested" => {
            ("kvm_mmu_spte_requested", mmu::spte_requested(payload, bare))
        }
        _ if name == b"mark_mmio_spte" => ("mark_mmio_spte", mmu::mark_mmio(payload, bare)),
        _ if name == b"kvm_cpuid" => ("kvm_cpuid", vcpu::cpuid(payload, bare)),
        _ if name == b"kvm_write_tsc_offset" => ("kvm_write_tsc_offset", vcpu::tsc_offset(payload)),
        _ if name == b"kvm_nested_vmenter" || name == b"kvm_nested_vmrun" => {
            ("kvm_nested_vmenter", vcpu::nested_enter(payload, bare))
        }
        // `kvm_nested_vmexit` is every exit of L2, and most are answered without L1. An entry that
        // fails leaves L1 where it was.
        _ if name == b"kvm_nested_vmexit_inject" || name == b"kvm_nested_vmenter_failed" => {
            return Ok(Some(Tracepoint::NestedExit));
        }
        _ if name == b"kvm_unmap_hva_range" => return Ok(Some(Tracepoint::UnmapHva)),
        // Before 5.4 by another name.
        _ if name == b"kvm_mmu_zap_all_fast" || name == b"kvm_mmu_invalidate_zap_all_pages" => {
            return Ok(Some(Tracepoint::ZapAllFast));
        }
        _ => return Ok(None),
    };
    decoded.map(Some).map_err(|flaw| match flaw {
        Flaw::Malformed => Bad::Fields(name),
        Flaw::Radix => Bad::Radix(name),
        Flaw::Plugin => Bad::Plugin(name),
    })
}

/// Whether an event is one of those that matter.
pub fn is_known(name: &[u8], payload: &[u8]) -> bool {
    !matches!(decode(name, payload, Bare::Unknown), Ok(None))
}

/// A field that must be there, in its type.
fn must<T: TryFrom<u64>>(value: Option<u64>) -> Result<T, Flaw> {
    value.and_then(|value| T::try_from(value).ok()).ok_or(Flaw::Malformed)
}

/// A field that not all kernels have.
fn may<T: TryFrom<u64>>(value: Option<u64>) -> Result<Option<T>, Flaw> {
    value.map(|value| T::try_from(value).map_err(|_| Flaw::Malformed)).transpose()
}
