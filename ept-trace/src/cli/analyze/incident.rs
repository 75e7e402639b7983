//! Which files belong together.

use std::path::PathBuf;

use super::caveat;
use crate::model::Evidence;
use crate::source::trace::Said;
use crate::source::{Opened, Source, open};

/// Files of one machine at one time, which are judged as one stream.
#[derive(Default)]
pub(super) struct Incident {
    /// As the user gave them.
    pub names: Vec<String>,
    pub sources: Vec<Box<dyn Source>>,
    /// What speaks against a mismatch, where a changed byte of a file does not show.
    pub caveats: Vec<Option<Evidence>>,
}

impl Incident {
    fn add(&mut self, opened: Opened) {
        let Opened { name, format, source, is_unprotected, .. } = opened;
        self.caveats.push(is_unprotected.then(|| caveat(&name, format)));
        self.names.push(name);
        self.sources.push(source);
    }
}

/// Opens the files and puts together what belongs together: a file that tells its machine is of that
/// one; logs do not, and are of one machine, that of the recording if there is just one.
///
/// The second is why files cannot be read.
pub(super) fn sort(files: &[PathBuf], said: &Said) -> (Vec<Incident>, Vec<String>) {
    let mut incidents: Vec<Incident> = Vec::new();
    let mut logs = Incident::default();
    let (opened, refused) = open(files, said);
    for opened in opened {
        if opened.machine.is_none() {
            logs.add(opened);
        } else {
            let mut incident = Incident::default();
            incident.add(opened);
            incidents.push(incident);
        }
    }
    match (&mut incidents[..], logs.names.is_empty()) {
        (_, true) => {}
        ([only], false) => {
            only.names.append(&mut logs.names);
            only.sources.append(&mut logs.sources);
            only.caveats.append(&mut logs.caveats);
        }
        (_, false) => incidents.push(logs),
    }
    (incidents, refused)
}
