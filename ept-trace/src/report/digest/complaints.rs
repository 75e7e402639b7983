//! What the kernel, and programs that use KVM, have complained of by themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Plain;
use super::findings::shape;
use crate::model::{Event, EventKind, VmcsDump};

/// A complaint, and those in the same words.
#[derive(Debug)]
pub(in crate::report) struct Complaint {
    /// Index of the source.
    pub source: usize,
    /// Whose words they are.
    pub by: Plain,
    /// The words of the first.
    pub text: Plain,
    /// How many.
    pub count: u64,
    /// Time of the first, in nanoseconds.
    pub first_ns: u64,
    /// Time of the last, in nanoseconds.
    pub last_ns: u64,
}

/// All complaints.
#[derive(Debug, Default)]
pub(in crate::report) struct Complaints {
    /// By source, and words without addresses and larger numbers.
    kinds: BTreeMap<(usize, String), Complaint>,
    /// Complaints of kinds that were not kept.
    pub left_out: u64,
}

impl Complaints {
    /// Kinds that are kept.
    const MOST: usize = 100;

    pub(super) fn event(&mut self, source: usize, event: &Event) {
        match &event.kind {
            EventKind::Complaint { by, text } => self.add(source, event.time_ns, by, text),
            EventKind::VmcsDump(dump) => {
                self.add(source, event.time_ns, "kernel", &describe(dump));
            }
            _ => {}
        }
    }

    fn add(&mut self, source: usize, time_ns: u64, by: &str, text: &str) {
        let (by, text) = (Plain::of(by), Plain::of(text));
        let key = (source, format!("{by}: {}", shape(text.as_str())));
        if let Some(complaint) = self.kinds.get_mut(&key) {
            complaint.count += 1;
            complaint.last_ns = complaint.last_ns.max(time_ns);
        } else if self.kinds.len() < Self::MOST {
            let (first_ns, last_ns) = (time_ns, time_ns);
            self.kinds.insert(key, Complaint { source, by, text, count: 1, first_ns, last_ns });
        } else {
            self.left_out += 1;
        }
    }

    /// Those that were kept, in the order in which they were first made.
    pub(in crate::report) fn first(&self) -> Vec<&Complaint> {
        let mut kinds: Vec<_> = self.kinds.values().collect();
        kinds.sort_by_key(|complaint| (complaint.source, complaint.first_ns));
        kinds
    }

    /// How many there were.
    pub(in crate::report) fn count(&self) -> u64 {
        self.kinds.values().map(|complaint| complaint.count).sum::<u64>() + self.left_out
    }
}

fn describe(dump: &VmcsDump) -> String {
    let VmcsDump { vmcs, eptp, exit_reason, exit_qualification, gpa } = dump;
    let mut text = "a VMCS was printed".to_owned();
    let parts = [
        ("at", *vmcs),
        ("EPTP", *eptp),
        ("exit reason", exit_reason.map(u64::from)),
        ("exit qualification", *exit_qualification),
        ("GPA", *gpa),
    ];
    for (what, value) in parts {
        if let Some(value) = value {
            let _ = write!(text, ", {what} {value:#x}");
        }
    }
    text
}
