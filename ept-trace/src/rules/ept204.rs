//! EPT204 eptp-ad: the EPTP turns accessed and dirty flags on exactly where KVM counts on them.
//!
//! What it judges
//!   Bit 6 of the EPTP, on VMX. Where L1 gives L2 no EPT of its own, kernels up to 6.18 leave it off
//!   and later ones turn it on; both are right, for such roots are write-protected to see writes, and
//!   not judged.
//!
//! Why it matters
//!   Where KVM counts on the flags and the hardware does not set them, dirty pages are missed: a
//!   migration loses writes. The other way round the hardware writes into entries that KVM takes
//!   for its own, and page-modification logging fills up unasked.
//!
//! Evidence
//!   What is written to the VMCS; enable_ept_ad_bits (module parameter eptad, and capability bit
//!   21), read from kvm_intel at that moment, and ad_disabled in the role of the MMU in use: L1 may have turned the flags off
//!   for L2.
//!
//! What to do
//!   /sys/module/kvm_intel/parameters/eptad shows enable_ept_ad_bits. If the role says otherwise
//!   than EPTP12 does, look at kvm_init_shadow_ept_mmu.

use ept_trace_common::eptp::ACCESSED_DIRTY;

use super::Rule;
use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT204", name: "eptp-ad", source: include_str!("ept204.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let EventKind::Load(load) = &event.kind else { return None };
    let actual = load.eptp? & ACCESSED_DIRTY != 0;
    if load.is_dummy || (!load.nested && load.is_of_l2()) {
        return None;
    }
    let enabled = known.enable_ept_ad_bits(&load.inputs);
    let (Some(is_enabled), Some(ad_disabled)) = (enabled.value(), load.ad_disabled) else {
        let missing = match enabled.value() {
            None => format!("enable_ept_ad_bits: {}", enabled.origin()),
            Some(_) => "ad_disabled of the MMU's role could not be read".to_owned(),
        };
        return Some(RULE.says(Verdict::Undetermined, missing, vec![]));
    };
    let expected = is_enabled && !ad_disabled;
    let evidence = vec![
        Evidence::new("EPTP bit 6", actual, &*load.observed_by),
        Evidence::new("expected", expected, "replayed"),
        Evidence::new("enable_ept_ad_bits", is_enabled, enabled.origin()),
        Evidence::new("ad_disabled", ad_disabled, "role of arch.mmu"),
    ];
    let on = |is_on| if is_on { "on" } else { "off" };
    Some(if actual == expected {
        let message = format!("accessed and dirty flags are {}, as KVM has them", on(actual));
        RULE.says(Verdict::Ok, message, evidence)
    } else {
        let message = format!(
            "the EPTP has accessed and dirty flags {}, KVM has them {}",
            on(actual),
            on(expected)
        );
        RULE.says(Verdict::Mismatch, message, evidence)
    })
}
