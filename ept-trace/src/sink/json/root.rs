//! Roots: handed to the hardware, and those of an MMU for a nested guest.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Rules, hex};
use crate::model::{Load, Nested, ShadowMmu, Verdict};

/// A root that was handed to the hardware.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoadLine<'a> {
    time_ns: u64,
    vm: u32,
    pid: u32,
    vcpu: u32,
    maxphyaddr: Option<u32>,
    nested: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    eptp: Option<String>,
    root_hpa: String,
    level: u8,
    mmu_root_level: Option<u8>,
    page_level: Option<u8>,
    verdict: Verdict,
    rules: Rules<'a>,
    observed_by: &'a str,
}

/// An MMU that shadows L1's tables.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShadowLine<'a> {
    time_ns: u64,
    vm: u32,
    pid: u32,
    vcpu: u32,
    maxphyaddr: Option<u32>,
    shadows: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    eptp12: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown_ept_capability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l1_cr4: Option<String>,
    root_level: Option<u8>,
    walk_level: Option<u8>,
    direct: Option<bool>,
    verdict: Verdict,
    rules: Rules<'a>,
    observed_by: &'a str,
}

impl<'a> LoadLine<'a> {
    pub(super) fn new(load: &'a Load, time_ns: u64, verdict: Verdict, rules: Rules<'a>) -> Self {
        Self {
            time_ns,
            vm: load.vm,
            pid: load.pid,
            vcpu: load.vcpu,
            maxphyaddr: load.maxphyaddr,
            nested: load.nested,
            eptp: load.eptp.map(hex),
            root_hpa: hex(load.root_hpa),
            level: load.level,
            mmu_root_level: load.mmu_level,
            page_level: load.page_level(),
            verdict,
            rules,
            observed_by: &load.observed_by,
        }
    }
}

impl<'a> ShadowLine<'a> {
    pub(super) fn new(
        mmu: &'a ShadowMmu,
        time_ns: u64,
        verdict: Verdict,
        rules: Rules<'a>,
    ) -> Self {
        let (shadows, eptp12, shown, l1_cr4) = match mmu.nested {
            Nested::Ept { eptp12, shown } => ("ept", eptp12, shown, None),
            Nested::Npt { l1 } => ("npt", None, None, l1.map(|(cr4, _)| cr4)),
        };
        Self {
            time_ns,
            vm: mmu.vm,
            pid: mmu.pid,
            vcpu: mmu.vcpu,
            maxphyaddr: mmu.maxphyaddr,
            shadows,
            eptp12: eptp12.map(hex),
            shown_ept_capability: shown.map(u64::from).map(hex),
            l1_cr4: l1_cr4.map(hex),
            root_level: mmu.level,
            walk_level: mmu.walk_level,
            direct: mmu.direct,
            verdict,
            rules,
            observed_by: &mmu.observed_by,
        }
    }
}
