//! Changes of entries, as tracepoints tell them.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entry was changed: by the TDP MMU, which tells what it was before, or by what else of KVM
/// fills tables, which does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SpteChange {
    /// The hook that captured it.
    pub observed_by: Cow<'static, str>,
    /// Number of the VM, if it is known whose entry it is.
    pub vm: Option<u32>,
    /// The VM was seen to begin, and nothing was lost since.
    pub from_start: bool,
    /// It is from a log, which does not tell VMs apart: the entries of all are followed together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_log: Option<InLog>,
    /// Address space, of the TDP MMU: 0, or 1 for SMM.
    pub as_id: Option<u8>,
    /// First frame of the guest that the entry is for, of 4 KiB.
    pub gfn: u64,
    /// Level of the table that the entry is in: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub level: u8,
    /// The entry before, of the TDP MMU.
    pub old: Option<u64>,
    /// The entry now.
    pub new: u64,
    /// Physical address of the entry, where the TDP MMU is not at work.
    pub place: Option<u64>,
}

/// What is made of a change that a log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InLog {
    /// All changes are in the log, and a vCPU of a VM that was seen to begin made this one, for its own
    /// VM.
    Judged,
    /// Something may not be in the log: if it does not fit, history may be at fault, and ends.
    Followed,
}
