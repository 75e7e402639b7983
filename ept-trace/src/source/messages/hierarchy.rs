//! Entries that KVM prints from the root down: those with reserved bits that it comes upon while it
//! looks for an MMIO entry, and those that a #VE comes from.
//!
//! ```text
//! walk_shadow_page_get_mmio_spte: detect reserved bits on spte, addr 0x268fe10, dump hierarchy:
//! ------ spte 0x1000007abb7007 level 4.                                         (to 5.12)
//! get_mmio_spte: reserved bits set on MMU-present spte, addr 0xfffff000, hierarchy:
//! ------ spte = 0x8913827 level = 2, rsvd bits = 0xffff000000000000             (5.13 and later)
//! #VE fee00000, spte[4] = 0x108adf907, spte[3] = 0x10bd70907                    (6.11 and later)
//! ```
//!
//! An entry that the newer KVM does not take for present is not printed: it may be one for MMIO. The
//! older one prints it. What is printed is not the address of the root, and not the access; KVM asks
//! for MMIO whatever the access is, so it is judged as a read, which asks for least.

use super::gather::{Begun, Gather, Step, append, complaint};
use super::scan::{begins_with_one_of, decimal, hex, split};
use crate::model::{EventKind, Walk};

/// The function that prints `#VE`.
const PRINT_SPTES: &str = "kvm_mmu_print_sptes";
const ENTRY: &[u8] = b"------ spte ";
const PIECE: &[u8] = b", spte[";
/// Who looks for MMIO: to 5.9, and since.
const FUNCTIONS: &[&[u8]] = &[b"walk_shadow_page_get_mmio_spte:", b"get_mmio_spte:"];
/// What follows the name of the function, and is followed by the address.
const HEADS: [&[u8]; 2] =
    [b" reserved bits set on MMU-present spte, addr ", b" detect reserved bits on spte, addr "];
const NO_ENTRY: &str = "an entry of a hierarchy cannot be read";
/// Of a leaf above level 1.
const PAGE_SIZE: u64 = 1 << 7;

/// A hierarchy, as far as it was seen.
#[derive(Debug)]
struct Hierarchy {
    walk: Walk,
    /// Level of the entry that came last.
    level: Option<u8>,
    /// All of it as it was printed: KVM has its own opinion of reserved bits.
    text: Vec<u8>,
}

/// Begins a hierarchy.
pub(super) fn begin(message: &[u8]) -> Option<Begun> {
    if message.starts_with(ENTRY) {
        return Some(Begun::Bad("an entry of a hierarchy whose head is missing"));
    }
    if let Some(rest) = message.strip_prefix(b"#VE ") {
        let Some((gpa, entries)) = hex(rest) else {
            return Some(Begun::Bad("the address of a #VE is no number"));
        };
        let mut hierarchy = Hierarchy::new(PRINT_SPTES, gpa, message);
        // All on one line, unless another printed between them.
        return Some(match hierarchy.pieces(entries) {
            Step::Bad(why) => Begun::Bad(why),
            _ => Begun::Open(Box::new(hierarchy)),
        });
    }
    if !begins_with_one_of(message, FUNCTIONS) {
        return None;
    }
    let (function, rest) = split(message, b':')?;
    let address = HEADS.iter().find_map(|head| rest.strip_prefix(*head))?;
    let function = str::from_utf8(function).ok()?;
    Some(match hex(address) {
        Some((gpa, _)) => Begun::Open(Box::new(Hierarchy::new(function, gpa, message))),
        None => Begun::Bad("the address of a hierarchy is no number"),
    })
}

impl Gather for Hierarchy {
    fn take(&mut self, message: &[u8]) -> Step {
        if message.starts_with(PIECE) {
            append(&mut self.text, b"", message);
            return self.pieces(message);
        }
        if let Some(rest) = message.strip_prefix(ENTRY) {
            let Some((spte, level)) = entry(rest) else {
                return Step::Bad(NO_ENTRY);
            };
            let step = self.put(spte, level);
            if step != Step::Over {
                append(&mut self.text, b" ", message.trim_ascii_start());
            }
            return step;
        }
        // The warning that comes with it, or another hierarchy.
        let is_next = message.starts_with(b"------------[ cut here") || begin(message).is_some();
        if is_next { Step::Over } else { Step::Foreign }
    }

    fn end(self: Box<Self>) -> Vec<EventKind> {
        let told = complaint("kvm", &self.text);
        if self.walk.entries.is_empty() {
            return vec![told];
        }
        vec![told, EventKind::Walk(Box::new(self.walk))]
    }
}

impl Hierarchy {
    fn new(function: &str, gpa: u64, text: &[u8]) -> Self {
        let mut hierarchy = Self {
            walk: Walk { observed_by: function.to_owned().into(), gpa, ..Walk::default() },
            level: None,
            text: Vec::new(),
        };
        append(&mut hierarchy.text, b"", text);
        hierarchy
    }

    /// Entries of a `#VE`: `, spte[4] = 0x108adf907`, any number of times.
    fn pieces(&mut self, mut text: &[u8]) -> Step {
        let mut step = Step::More;
        while step == Step::More
            && let Some(rest) = text.strip_prefix(PIECE)
        {
            let Some((level, rest)) = decimal(rest) else { return Step::Bad(NO_ENTRY) };
            let Some((spte, rest)) = rest.strip_prefix(b"] = ").and_then(hex) else {
                return Step::Bad(NO_ENTRY);
            };
            step = self.put(spte, level);
            text = rest;
        }
        step
    }

    /// The next entry: of the level below the last one, else it is of another hierarchy.
    fn put(&mut self, spte: u64, level: u64) -> Step {
        let Ok(level @ 1..=5) = u8::try_from(level) else { return Step::Bad(NO_ENTRY) };
        match self.level {
            None => self.walk.root_level = Some(level),
            Some(last) if level + 1 == last => {}
            Some(_) => return Step::Over,
        }
        self.level = Some(level);
        self.walk.entries.push(spte);
        let is_leaf = level == 1 || level <= 3 && spte & PAGE_SIZE != 0;
        if is_leaf { Step::Last } else { Step::More }
    }
}

/// What follows `------ spte `: an entry and its level, in either dialect.
fn entry(text: &[u8]) -> Option<(u64, u64)> {
    let (spte, rest) = hex(text.strip_prefix(b"= ").unwrap_or(text))?;
    let level = rest.strip_prefix(b" level ")?;
    let (level, _) = decimal(level.strip_prefix(b"= ").unwrap_or(level))?;
    Some((spte, level))
}
