//! Where the fields of each tracepoint are.

use super::place::Place;
use crate::source::trace::format::{BadFormat, Format};
use crate::source::trace::record::{PageRole, Tracepoint};

/// A [`Tracepoint`], with places for its values. What is optional is not in all kernels.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    Entry { vcpu: Option<Place> },
    Exit { vcpu: Option<Place>, isa: Option<Place> },
    PageFault { vcpu: Option<Place>, gpa: Place, error_code: Place },
    GetPage { gfn: Place, role: Place, created: Option<Place> },
    PrepareZap { gfn: Place, role: Place },
    SpteChanged { as_id: Place, gfn: Place, level: Place, old: Place, new: Place },
    SetSpte { gfn: Place, level: Place, spte: Place, place: Place },
    SpteRequested { gfn: Place, pfn: Place, level: Place },
    MarkMmio { gfn: Place, place: Place },
    UnmapHva,
    ZapAllFast,
    Cpuid { function: Place, rax: Place },
    WriteTscOffset { vcpu: Place, previous: Place },
    NestedEnter { tdp_enabled: Option<Place>, pgd: Option<Place>, isa: Option<Place> },
    NestedExit,
}

/// `KVM_ISA_VMX` and `KVM_ISA_SVM` of arch/x86/kvm/trace.h.
const ISA_VMX: u8 = 1;
const ISA_SVM: u8 = 2;

impl Plan {
    /// Where the fields of an event are; `None` if it is no [`Tracepoint`].
    pub fn of(format: &Format) -> Result<Option<Self>, BadFormat> {
        let must = |name| Place::of(format, name);
        let may = |name| Place::of_any(format, name);
        Ok(Some(match (format.system.as_str(), format.name.as_str()) {
            ("kvm", "kvm_entry") => Self::Entry { vcpu: may("vcpu_id")? },
            ("kvm", "kvm_exit") => Self::Exit { vcpu: may("vcpu_id")?, isa: may("isa")? },
            ("kvm", "kvm_page_fault") => Self::PageFault {
                vcpu: may("vcpu_id")?,
                gpa: must("fault_address")?,
                error_code: must("error_code")?,
            },
            ("kvmmmu", "kvm_mmu_get_page") => {
                Self::GetPage { gfn: must("gfn")?, role: must("role")?, created: may("created")? }
            }
            ("kvmmmu", "kvm_mmu_prepare_zap_page") => {
                Self::PrepareZap { gfn: must("gfn")?, role: must("role")? }
            }
            ("kvmmmu", "kvm_tdp_mmu_spte_changed") => Self::SpteChanged {
                as_id: must("as_id")?,
                gfn: must("gfn")?,
                level: must("level")?,
                old: must("old_spte")?,
                new: must("new_spte")?,
            },
            ("kvmmmu", "kvm_mmu_set_spte") => Self::SetSpte {
                gfn: must("gfn")?,
                level: must("level")?,
                spte: must("spte")?,
                place: must("sptep")?,
            },
            ("kvmmmu", "kvm_mmu_spte_requested") => {
                Self::SpteRequested { gfn: must("gfn")?, pfn: must("pfn")?, level: must("level")? }
            }
            ("kvmmmu", "mark_mmio_spte") => {
                Self::MarkMmio { gfn: must("gfn")?, place: must("sptep")? }
            }
            // kvm_set_spte_hva, up to 6.9, is told as the host puts another page in the place of
            // one, which changes entries just so.
            ("kvm", "kvm_unmap_hva_range" | "kvm_set_spte_hva") => Self::UnmapHva,
            // The second is what the first was up to 5.0.
            ("kvmmmu", "kvm_mmu_zap_all_fast" | "kvm_mmu_invalidate_zap_all_pages") => {
                Self::ZapAllFast
            }
            ("kvm", "kvm_cpuid") => Self::Cpuid { function: must("function")?, rax: must("rax")? },
            ("kvm", "kvm_write_tsc_offset") => Self::WriteTscOffset {
                vcpu: must("vcpu_id")?,
                previous: must("previous_tsc_offset")?,
            },
            // The first, of SVM alone, has `npt` and no address.
            ("kvm", "kvm_nested_vmrun" | "kvm_nested_vmenter") => Self::NestedEnter {
                tdp_enabled: may("tdp_enabled")?,
                pgd: may("guest_pgd")?,
                isa: may("isa")?,
            },
            // kvm_nested_vmexit is told of exits too that KVM handles itself, and L2 goes on.
            ("kvm", "kvm_nested_vmexit_inject") => Self::NestedExit,
            _ => return Ok(None),
        }))
    }

    /// Reads the fields of an event; `None` if a value is impossible.
    #[inline]
    pub fn read(&self, event: &[u8]) -> Option<Tracepoint> {
        let word = |place: Place| place.u64(event);
        let level = |place: Place| place.u8(event).filter(|level| (1..=5).contains(level));
        let role = |place: Place| place.u32(event).map(PageRole::Word);
        Some(match *self {
            Self::Entry { vcpu } => Tracepoint::Entry { vcpu: optional(vcpu, |at| at.u32(event))? },
            Self::Exit { vcpu, isa } => Tracepoint::Exit {
                vcpu: optional(vcpu, |at| at.u32(event))?,
                isa: optional(isa, |at| told_isa(at, event))?,
            },
            Self::PageFault { vcpu, gpa, error_code } => Tracepoint::PageFault {
                vcpu: optional(vcpu, |at| at.u32(event))?,
                gpa: word(gpa)?,
                error_code: word(error_code)?,
            },
            Self::GetPage { gfn, role: word_at, created } => Tracepoint::GetPage {
                gfn: word(gfn)?,
                role: role(word_at)?,
                created: optional(created, |at| at.bool(event))?,
            },
            Self::PrepareZap { gfn, role: word_at } => {
                Tracepoint::PrepareZap { gfn: word(gfn)?, role: role(word_at)? }
            }
            Self::SpteChanged { as_id, gfn, level: level_at, old, new } => {
                Tracepoint::SpteChanged {
                    as_id: as_id.u8(event)?,
                    gfn: word(gfn)?,
                    level: level(level_at)?,
                    old: word(old)?,
                    new: word(new)?,
                }
            }
            Self::SetSpte { gfn, level: level_at, spte, place } => Tracepoint::SetSpte {
                gfn: word(gfn)?,
                level: level(level_at)?,
                spte: word(spte)?,
                place: word(place)?,
            },
            Self::SpteRequested { gfn, pfn, level: level_at } => Tracepoint::SpteRequested {
                gfn: word(gfn)?,
                pfn: word(pfn)?,
                level: level(level_at)?,
            },
            Self::MarkMmio { gfn, place } => {
                Tracepoint::MarkMmio { gfn: word(gfn)?, place: word(place)? }
            }
            Self::UnmapHva => Tracepoint::UnmapHva,
            Self::ZapAllFast => Tracepoint::ZapAllFast,
            // `rax` is an `unsigned long`, and KVM passes an `u32` in it.
            Self::Cpuid { function, rax } => {
                Tracepoint::Cpuid { function: function.u32(event)?, eax: rax.u32(event)? }
            }
            Self::WriteTscOffset { vcpu, previous } => {
                Tracepoint::WriteTscOffset { vcpu: vcpu.u32(event)?, previous: word(previous)? }
            }
            Self::NestedEnter { tdp_enabled, pgd, isa } => {
                // Without TDP for L2, `guest_pgd` is its CR3.
                let has_tdp = optional(tdp_enabled, |at| at.bool(event))?.unwrap_or(false);
                let pgd = optional(pgd.filter(|_| has_tdp), word)?;
                // Before there was `isa`, only SVM told this.
                let isa = optional(isa, |at| told_isa(at, event))?;
                Tracepoint::NestedEnter { pgd, is_ept: Some(isa == Some(ISA_VMX)) }
            }
            Self::NestedExit => Tracepoint::NestedExit,
        })
    }
}

/// What `read` has at a place, if there is one; the outer `None` if it can have none there.
#[inline]
#[expect(clippy::option_option, reason = "the outer one is for `?`")]
fn optional<T>(place: Option<Place>, read: impl FnOnce(Place) -> Option<T>) -> Option<Option<T>> {
    place.map_or(Some(None), |place| read(place).map(Some))
}

#[inline]
fn told_isa(place: Place, event: &[u8]) -> Option<u8> {
    place.u8(event).filter(|&isa| isa == ISA_VMX || isa == ISA_SVM)
}
