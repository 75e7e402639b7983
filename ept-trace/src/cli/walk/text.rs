//! A walk, for a person.

use std::fmt::Write as _;

use super::root::{Pointer, Root};
use super::words::{exitinfo1, is_kvm_mmio, page_size, qualification};
use crate::ept::{Access, Kind, MemoryType, Outcome, Rights, Translation, Walk};
use crate::model::Gpa;

/// The walk level by level, and its outcome.
pub(super) fn walk(
    root: &Root,
    gpa: Gpa,
    access: &Access,
    walk: &Walk,
    why_missing: Option<&str>,
) -> String {
    let mut text = String::new();
    let what = match access.kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::ReadModifyWrite => "read-modify-write",
        Kind::Fetch => "instruction fetch",
    };
    let _ = writeln!(text, "{}", header(root));
    let _ = writeln!(text, "GPA {gpa}, {what}");
    assumed(&mut text, &root.assumed);
    let places: Vec<String> = walk
        .trail
        .iter()
        .map(|step| format!("{:<5} {}[{}]", root.entry_name(step.level), step.table, step.index))
        .collect();
    let width = places.iter().map(String::len).max().unwrap_or_default();
    let mut rights = Rights::all();
    for (step, place) in walk.trail.iter().zip(&places) {
        rights &= root.rights(step.entry);
        let bits = root.describe(step.entry, step.level);
        let _ = writeln!(text, "{place:<width$} = {:#x}: {bits}; rights {rights}", step.entry);
    }
    let _ = writeln!(text, "{}", outcome(root, gpa, walk, why_missing));
    text
}

/// An EPTP that no walk begins at.
pub(super) fn invalid_eptp(eptp: u64, why: &str, assumptions: &[String]) -> String {
    let mut text = format!("EPTP {eptp:#x}\n");
    assumed(&mut text, assumptions);
    let _ = writeln!(
        text,
        "invalid EPTP: {why}; VM entry fails with VM-instruction error 7, and nothing is walked"
    );
    text
}

/// What the walk begins at.
pub(super) fn header(root: &Root) -> String {
    let (levels, table) = (root.levels, root.table());
    match root.pointer {
        Pointer::Eptp(eptp) => {
            let memory_type = MemoryType::of(eptp & 7).map_or("no type", MemoryType::name);
            let flags = if eptp & 1 << 6 == 0 { "without" } else { "with" };
            format!(
                "EPTP {eptp:#x}: {levels} levels from {table}, {memory_type}, {flags} accessed and \
                 dirty flags"
            )
        }
        Pointer::Ncr3(ncr3) => format!("nCR3 {ncr3:#x}: {levels} levels from {table}"),
    }
}

fn assumed(text: &mut String, assumptions: &[String]) {
    for assumption in assumptions {
        let _ = writeln!(text, "assumed: {assumption}");
    }
}

fn outcome(root: &Root, gpa: Gpa, walk: &Walk, why_missing: Option<&str>) -> String {
    let name = |level: Option<u8>| {
        level.map_or("for the address is too wide".to_owned(), |level| {
            format!("at the {}", root.entry_name(level))
        })
    };
    match &walk.outcome {
        Outcome::Translation(translation) => translated(root, translation),
        Outcome::Violation(violation) => format!(
            "EPT violation {} (exit reason 48), qualification {:#x}: {}",
            name(violation.level),
            violation.qualification,
            qualification(violation).join("; ")
        ),
        Outcome::Misconfiguration { level, reasons } => {
            let mmio = walk.trail.last().is_some_and(is_kvm_mmio);
            let mmio = if mmio { "; KVM marks MMIO so, on purpose" } else { "" };
            format!("EPT misconfiguration {} (exit reason 49): {reasons}{mmio}", name(Some(*level)))
        }
        Outcome::SubPage(event) => {
            format!("SPP-related event (exit reason 66), qualification {:#x}", event.qualification)
        }
        Outcome::LogFull => "page-modification log full (exit reason 62)".to_owned(),
        Outcome::NestedFault(fault) => format!(
            "#NPF {} (exit code 0x400), EXITINFO1 {:#x}: {}",
            name(fault.level),
            fault.exitinfo1,
            exitinfo1(fault).join(", ")
        ),
        Outcome::GpaNotRepresentable => format!(
            "GPA {gpa} has more bits than MAXPHYADDR: the guest's own paging faults, and nothing \
             is walked"
        ),
        Outcome::NotInDump { at, level } => {
            let why = why_missing.map(|why| format!(": {why}")).unwrap_or_default();
            format!(
                "not in this dump: the {} at HPA {at}{why}. This is not an entry that is not present",
                root.entry_name(*level)
            )
        }
    }
}

fn translated(root: &Root, translation: &Translation) -> String {
    let mut text = format!(
        "HPA {}, page of {}, rights {}",
        translation.hpa,
        page_size(translation.level),
        translation.rights
    );
    if let Some(memory) = translation.memory {
        let ipat = if memory.ipat { ", the guest's PAT is ignored" } else { "" };
        let _ = write!(text, ", memory type {}{ipat}", memory.memory_type.name());
    }
    let accessed = (1..=5).rev().filter(|level| translation.sets_accessed(*level));
    let accessed: Vec<&str> = accessed.map(|level| root.entry_name(level)).collect();
    if !accessed.is_empty() {
        let _ = write!(text, "; sets A in {}", accessed.join(", "));
    }
    if translation.dirty {
        let _ = write!(text, "; sets D in {}", root.entry_name(translation.level));
    }
    text
}
