//! EPT403 alignment: a large page begins where a page of its size can.
//!
//! What it judges
//!   Entries of level 2 and above that map a page, when they are set: the guest's frame and the
//!   host's, against the size of the page.
//!
//! Why it matters
//!   EPT refuses such an entry as misconfigured. NPT may, or maps other memory than was meant.
//!
//! Evidence
//!   The entry and the frame, of tracepoint kvm_tdp_mmu_spte_changed, or of kvm_mmu_set_spte for
//!   tables that the TDP MMU does not keep (`--history`).
//!
//! What to do
//!   Look at the memslot: userspace and guest addresses that are not aligned alike must not be mapped
//!   by large pages. Where they are aligned, compare the host's page tables.

use super::Rule;
use super::history::place;
use crate::model::{Event, EventKind, Evidence, Judgement, SpteChange, Vendor, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT403", name: "alignment", source: include_str!("ept403.rs"), judge };

/// R, W and X, or P, W and U.
const RIGHTS: u64 = 7;
/// The entry maps a page.
const PAGE_SIZE: u64 = 1 << 7;
/// Of a large page of NPT, and not of its address.
const PAT: u64 = 1 << 12;
/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Whether a large page is mapped.
pub(super) fn is_about(change: &SpteChange) -> bool {
    (2..=3).contains(&change.level) && change.new & PAGE_SIZE != 0 && change.new & RIGHTS != 0
}

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::SpteChange(change) = &event.kind else { return None };
    if !is_about(change) {
        return None;
    }
    let entry = change.new;
    let pat = if *known.vendor() == Vendor::Svm { PAT } else { 0 };
    let address = entry & ADDRESS & !known.encryption_mask() & !pat;
    let frames = 1_u64 << (9 * (change.level - 1));
    let is_aligned = |frame: u64| frame.is_multiple_of(frames);
    if is_aligned(change.gfn) && is_aligned(address >> 12) {
        return Some(RULE.says(Verdict::Ok, "the large page is aligned", vec![]));
    }
    let whose = if is_aligned(change.gfn) { "the host's" } else { "the guest's" };
    let message =
        format!("{}: {whose} frame of a large page is no multiple of {frames:#x}", place(change));
    let evidence = vec![
        Evidence::new("gfn", format!("{:#x}", change.gfn), &*change.observed_by),
        Evidence::new("entry", format!("{entry:#x}"), &*change.observed_by),
    ];
    Some(RULE.says(Verdict::Mismatch, message, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(level: u8, gfn: u64, new: u64) -> Option<Verdict> {
        let kind = EventKind::SpteChange(SpteChange { gfn, level, new, ..SpteChange::default() });
        judge(&Event { time_ns: 0, kind }, &Known::default()).map(|judgement| judgement.verdict)
    }

    #[test]
    fn a_large_page_that_is_not_aligned_is_found() {
        // 2 MiB is 0x200 frames, 1 GiB 0x40000.
        assert_eq!(judged(2, 0x200, 0x4020_0ef7), Some(Verdict::Ok));
        assert_eq!(judged(2, 0x201, 0x4020_0ef7), Some(Verdict::Mismatch));
        assert_eq!(judged(2, 0x200, 0x4020_1ef7), Some(Verdict::Mismatch));
        assert_eq!(judged(3, 0x4_0000, 0x4000_0ef7), Some(Verdict::Ok));
        assert_eq!(judged(3, 0x200, 0x4000_0ef7), Some(Verdict::Mismatch));
        assert_eq!(judged(3, 0x4_0000, 0x4020_0ef7), Some(Verdict::Mismatch));
    }

    #[test]
    fn tables_small_pages_and_frozen_entries_are_no_large_pages() {
        for (level, entry) in
            [(1, 0x1ee7), (2, 0x1827), (2, 1 << 63 | 0x5a0), (2, 0x1a0), (4, 0x18e7)]
        {
            assert_eq!(judged(level, 1, entry), None, "{level} {entry:#x}");
        }
    }
}
