//! Which files belong together.

use std::path::PathBuf;

use super::caveat;
use crate::model::{Evidence, Fact};
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
    fn add(&mut self, name: String, opened: Opened) {
        let is_unprotected = opened.is_unprotected;
        self.caveats.push(is_unprotected.then(|| caveat(&name, opened.format)));
        self.names.push(name);
        self.sources.push(opened.source);
    }
}

/// Opens the files and puts together what belongs together: a file that tells its machine is of that
/// one; logs do not, and are of one machine, that of the recording if there is just one.
///
/// The second is why files could not be opened.
pub(super) fn sort(
    files: &[PathBuf],
    maxphyaddr: Option<&Fact<u8>>,
) -> (Vec<Incident>, Vec<String>) {
    let mut incidents: Vec<(Option<String>, Incident)> = Vec::new();
    let mut logs = Incident::default();
    let mut refused = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let opened = match open(path, maxphyaddr) {
            Ok(opened) => opened,
            Err(err) => {
                refused.push(format!("{name}: {err}"));
                continue;
            }
        };
        let Some(machine) = opened.machine.clone() else {
            logs.add(name, opened);
            continue;
        };
        let same = incidents.iter_mut().find(|(of, _)| of.as_ref() == Some(&machine));
        if let Some((_, incident)) = same {
            incident.add(name, opened);
        } else {
            let mut incident = Incident::default();
            incident.add(name, opened);
            incidents.push((Some(machine), incident));
        }
    }
    match (&mut incidents[..], logs.names.is_empty()) {
        (_, true) => {}
        ([(_, only)], false) => {
            only.names.append(&mut logs.names);
            only.sources.append(&mut logs.sources);
            only.caveats.append(&mut logs.caveats);
        }
        (_, false) => incidents.push((None, logs)),
    }
    (incidents.into_iter().map(|(_, incident)| incident).collect(), refused)
}
