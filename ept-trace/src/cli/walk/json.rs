//! A walk as one JSON object; docs/walk.md describes it.

use serde::Serialize;

use super::root::Root;
use super::words::{exitinfo1, is_kvm_mmio, qualification};
use crate::ept::{Rights, Walk};
use crate::model::{Gpa, Hpa};

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    of_type: &'static str,
    gpa: Option<String>,
    root: String,
    root_level: Option<u8>,
    entries: Vec<Used>,
    outcome: Outcome<'a>,
    assumed: &'a [String],
}

/// An entry that the walk used.
#[derive(Serialize)]
struct Used {
    level: u8,
    table: String,
    index: u16,
    entry: String,
    /// Of the table or page; nothing if the entry is not present.
    address: Option<String>,
    bits: Vec<&'static str>,
    reserved: String,
    /// Of this entry and all above it.
    rights: String,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Outcome<'a> {
    Translation {
        hpa: String,
        level: u8,
        page_size: u64,
        rights: String,
        memory_type: Option<&'static str>,
        ipat: Option<bool>,
    },
    EptViolation {
        level: Option<u8>,
        qualification: String,
        qual_mask: String,
        means: Vec<String>,
    },
    EptMisconfig {
        level: u8,
        reasons: Vec<String>,
        kvm_mmio: bool,
    },
    SppEvent {
        qualification: String,
        qual_mask: String,
    },
    LogFull,
    VmentryFail {
        vm_instruction_error: u8,
        why: &'a str,
    },
    Npf {
        level: Option<u8>,
        exitinfo1: String,
        exitinfo1_mask: String,
        means: Vec<&'static str>,
    },
    GpaNotRepresentable,
    NotInDump {
        level: u8,
        at: String,
        why: Option<&'a str>,
    },
}

/// The walk level by level, and its outcome.
pub(super) fn walk(
    root: &Root,
    gpa: Gpa,
    walk: &Walk,
    why_missing: Option<&str>,
) -> serde_json::Result<String> {
    let mut rights = Rights::all();
    let entries = walk.trail.iter().map(|step| {
        rights &= root.rights(step.entry);
        let bits = root.describe(step.entry, step.level);
        Used {
            level: step.level,
            table: step.table.to_string(),
            index: step.index,
            entry: hex(step.entry),
            address: bits.address.map(|Hpa(address)| hex(address)),
            bits: bits.names,
            reserved: hex(bits.reserved),
            rights: rights.to_string(),
        }
    });
    line(&Object {
        of_type: "walk",
        gpa: Some(gpa.to_string()),
        root: hex(root.pointer.value()),
        root_level: Some(root.levels),
        entries: entries.collect(),
        outcome: outcome(walk, why_missing),
        assumed: &root.assumed,
    })
}

/// An EPTP that no walk begins at.
pub(super) fn invalid_eptp(
    eptp: u64,
    gpa: Option<Gpa>,
    why: &str,
    assumed: &[String],
) -> serde_json::Result<String> {
    line(&Object {
        of_type: "walk",
        gpa: gpa.map(|gpa| gpa.to_string()),
        root: hex(eptp),
        root_level: None,
        entries: Vec::new(),
        outcome: Outcome::VmentryFail { vm_instruction_error: 7, why },
        assumed,
    })
}

/// A value on a line of its own.
pub(super) fn line(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// As addresses and registers are written.
pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn outcome<'a>(walk: &Walk, why_missing: Option<&'a str>) -> Outcome<'a> {
    use crate::ept::Outcome as Came;

    match &walk.outcome {
        Came::Translation(translation) => Outcome::Translation {
            hpa: translation.hpa.to_string(),
            level: translation.level,
            page_size: translation.page_size(),
            rights: translation.rights.to_string(),
            memory_type: translation.memory.map(|memory| memory.memory_type.name()),
            ipat: translation.memory.map(|memory| memory.ipat),
        },
        Came::Violation(violation) => Outcome::EptViolation {
            level: violation.level,
            qualification: hex(violation.qualification),
            qual_mask: hex(violation.mask),
            means: qualification(violation),
        },
        Came::Misconfiguration { level, reasons } => Outcome::EptMisconfig {
            level: *level,
            reasons: reasons.iter().map(|reason| reason.to_string()).collect(),
            kvm_mmio: walk.trail.last().is_some_and(is_kvm_mmio),
        },
        Came::SubPage(event) => Outcome::SppEvent {
            qualification: hex(event.qualification),
            qual_mask: hex(event.mask),
        },
        Came::LogFull => Outcome::LogFull,
        Came::NestedFault(fault) => Outcome::Npf {
            level: fault.level,
            exitinfo1: hex(fault.exitinfo1),
            exitinfo1_mask: hex(fault.mask),
            means: exitinfo1(fault),
        },
        Came::GpaNotRepresentable => Outcome::GpaNotRepresentable,
        Came::NotInDump { at, level } => {
            Outcome::NotInDump { level: *level, at: at.to_string(), why: why_missing }
        }
    }
}
