//! The line of a walk.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Rules, hex};
use crate::model::{Race, Requested, Verdict, Walk};
use crate::oracle::End;

#[derive(Serialize, JsonSchema)]
pub(super) struct WalkLine<'a> {
    time_ns: u64,
    vm: Option<u32>,
    pid: Option<u32>,
    vcpu: Option<u32>,
    gpa: String,
    error_code: Option<String>,
    nested: bool,
    root_hpa: Option<String>,
    root_level: Option<u8>,
    entries: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<u32>,
    result: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<Requested>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hpa: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rights: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    races: &'a [Race],
    verdict: Verdict,
    rules: Rules<'a>,
    observed_by: &'a str,
}

impl<'a> WalkLine<'a> {
    pub(super) fn new(
        walk: &'a Walk,
        end: Option<&Result<End, String>>,
        time_ns: u64,
        verdict: Verdict,
        rules: Rules<'a>,
    ) -> Self {
        let mapped = match end {
            Some(Ok(End::Mapped(translation))) => Some(translation),
            _ => None,
        };
        // KVM prints entries into a log without saying whose they are, or what the fault was.
        let is_captured = walk.pid != 0;
        Self {
            time_ns,
            vm: (walk.vm != 0).then_some(walk.vm),
            pid: is_captured.then_some(walk.pid),
            vcpu: is_captured.then_some(walk.vcpu),
            gpa: hex(walk.gpa),
            error_code: is_captured.then(|| hex(walk.error_code)),
            nested: walk.nested,
            root_hpa: walk.root_hpa.map(hex),
            root_level: walk.root_level,
            entries: walk.entries.iter().copied().map(hex).collect(),
            answer: walk.answer,
            result: is_captured.then_some(walk.result),
            requested: walk.requested,
            outcome: outcome(end),
            hpa: mapped.map(|translation| hex(translation.hpa.0)),
            level: mapped.map(|translation| translation.level),
            rights: mapped.map(|translation| translation.rights.to_string()),
            races: &walk.races,
            verdict,
            rules,
            observed_by: &walk.observed_by,
        }
    }
}

fn outcome(end: Option<&Result<End, String>>) -> &'static str {
    match end {
        Some(Ok(End::Mapped(_))) => "mapped",
        Some(Ok(End::Denied)) => "denied",
        Some(Ok(End::Absent(_))) => "not_present",
        Some(Ok(End::Mmio)) => "mmio",
        Some(Ok(End::Refused(_))) => "misconfigured",
        Some(Ok(End::TooWide)) => "too_wide",
        Some(Ok(End::Cut)) => "cut",
        Some(Err(_)) | None => "unknown",
    }
}
