//! The line of a change of an entry.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Rules, hex};
use crate::model::{SpteChange, Verdict};

#[derive(Serialize, JsonSchema)]
pub(super) struct SpteChangeLine<'a> {
    time_ns: u64,
    vm: Option<u32>,
    from_start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_id: Option<u8>,
    gfn: String,
    level: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    new: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    verdict: Verdict,
    rules: Rules<'a>,
    observed_by: &'a str,
}

impl<'a> SpteChangeLine<'a> {
    pub(super) fn new(
        change: &'a SpteChange,
        time_ns: u64,
        verdict: Verdict,
        rules: Rules<'a>,
    ) -> Self {
        Self {
            time_ns,
            vm: change.vm,
            from_start: change.from_start,
            as_id: change.as_id,
            gfn: hex(change.gfn),
            level: change.level,
            old: change.old.map(hex),
            new: hex(change.new),
            place: change.place.map(hex),
            verdict,
            rules,
            observed_by: &change.observed_by,
        }
    }
}
