//! Concrete cases: tables, an access, and what has to come of it. The format of
//! `tests/vectors/*.json`.

mod compare;
mod expect;
mod format;

use std::collections::HashMap;

use serde_json::Value;
use thiserror::Error;

use super::{
    Access, Controls, Cpu, Ept, EptCapability, Guest, GuestLeaf, InvalidPointer, Npt, NptCpu,
    PhysRead, Walk,
};
use crate::model::{Gpa, Hpa};

/// A file of cases that cannot be read.
#[derive(Debug, Error)]
pub enum VectorError {
    /// The file is no list.
    #[error("not a list of cases: {0}")]
    List(#[source] serde_json::Error),
    /// A case is not of the format: an unknown field or kind among others.
    #[error("{name}: {source}")]
    Case {
        /// Which case.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    case: format::Case,
}

/// Reads a list of cases.
pub fn cases(json: &str) -> Result<Vec<Case>, VectorError> {
    let list: Vec<Value> = serde_json::from_str(json).map_err(VectorError::List)?;
    list.into_iter()
        .enumerate()
        .map(|(at, value)| {
            let name = name_of(&value, at);
            match serde_json::from_value(value) {
                Ok(case) => Ok(Case { case }),
                Err(source) => Err(VectorError::Case { name, source }),
            }
        })
        .collect()
}

/// What can be said of a case that may not be one.
fn name_of(value: &Value, at: usize) -> String {
    match (value.get("id"), value.get("name").and_then(Value::as_str)) {
        (Some(id), Some(name)) => format!("case {id} ({name})"),
        (Some(id), None) => format!("case {id}"),
        (None, _) => format!("case at place {at} of the list"),
    }
}

/// The entries of a case; nothing else is there.
struct Entries(HashMap<u64, u64>);

impl PhysRead for Entries {
    fn read_u64(&self, at: Hpa) -> Option<u64> {
        self.0.get(&at.0).copied()
    }
}

/// What comes of a case.
enum Came {
    /// VM entry refuses the EPTP.
    Refused(InvalidPointer),
    /// A walk.
    Walk(Walk),
}

impl Case {
    /// Its number and its name.
    pub fn name(&self) -> String {
        format!("case {} ({})", self.case.id, self.case.name)
    }

    /// What the case encodes: a section of the SDM, or a test of another project.
    pub fn source(&self) -> &str {
        &self.case.source
    }

    /// Walks, and compares. The error says what was expected and what came.
    pub fn run(&self) -> Result<(), String> {
        self.case.expect.compare(&self.came()?, self.guest())
    }

    fn came(&self) -> Result<Came, String> {
        let case = &self.case;
        if let Some(entry) =
            case.entries.iter().find(|it| it.index > 511 || it.table.0 & 0xfff != 0)
        {
            let (table, index) = (entry.table.0, entry.index);
            return Err(format!("no table has an entry {index} at {table:#x}"));
        }
        let length = case.access.length.unwrap_or(1);
        if !(1..=128).contains(&length) {
            return Err(format!("length is 1 to 128, not {length}"));
        }
        let place = |entry: &format::Entry| entry.table.0 | u64::from(entry.index) << 3;
        let memory =
            Entries(case.entries.iter().map(|entry| (place(entry), entry.value.0)).collect());
        let gpa = Gpa(case.gpa.0);
        let access = self.access();
        match case.format {
            format::Format::Ept => {
                let eptp = case.eptp.ok_or("an EPT case without eptp")?.0;
                let ept = match Ept::new(eptp, &self.cpu()?) {
                    Ok(ept) => ept,
                    Err(wrong) => return Ok(Came::Refused(wrong)),
                };
                let exact = ept.walk(&memory, gpa, &access).outcome;
                let sooner = ept.translate(&memory, gpa, &access);
                if sooner != exact {
                    return Err(format!("walk says {exact:?}, translate {sooner:?}"));
                }
                Ok(Came::Walk(ept.walk_bytes(&memory, gpa, length, &access)))
            }
            format::Format::Npt => {
                let ncr3 = case.ncr3.ok_or("an NPT case without ncr3")?.0;
                let npt = Npt::new(ncr3, &self.npt_cpu());
                Ok(Came::Walk(npt.walk(&memory, gpa, &access)))
            }
        }
    }

    fn cpu(&self) -> Result<Cpu, String> {
        let caps = &self.case.caps;
        let controls = &caps.controls;
        let capability = caps.ept_vpid_cap.ok_or("an EPT case without ept_vpid_cap")?.0;
        Ok(Cpu {
            capability: EptCapability(capability),
            maxphyaddr: caps.maxphyaddr,
            tme_keyid_bits: caps.tme_keyid_bits,
            controls: Controls {
                mbe: controls.mbe,
                spp: controls.spp,
                paging_write: controls.paging_write,
                guest_paging_verification: controls.guest_paging_verification,
                ve: controls.ve,
                nmi_exiting: controls.nmi_exiting,
                virtual_nmis: controls.virtual_nmis,
                pml_index: controls.pml_index,
            },
        })
    }

    fn npt_cpu(&self) -> NptCpu {
        let controls = &self.case.caps.controls;
        NptCpu {
            maxphyaddr: self.case.caps.maxphyaddr,
            nxe: controls.nxe,
            la57: controls.la57,
            smep: controls.smep,
            gbpages: controls.gbpages,
            gmet: controls.gmet,
        }
    }

    fn access(&self) -> Access {
        let access = &self.case.access;
        Access {
            kind: access.kind.into(),
            stage: access.stage.into(),
            gla_valid: access.gla_valid,
            user: access.user,
            paging: self.case.guest.is_none_or(|guest| guest.cr0_pg),
            shadow_stack: access.shadow_stack.map(Into::into),
            guest_leaf: access.guest_leaf.map(|leaf| GuestLeaf {
                user: leaf.user,
                writable: leaf.writable,
                nx: leaf.nx,
            }),
            guest_tables_all_paging_write: access.guest_tables_all_paging_write,
            spp_vector: access.spp_vector.map(|vector| vector.0),
            spp_exempt: access.transactional || access.enclave || access.pebs,
            iret_nmi_unblock: access.iret_nmi_unblock,
            event_delivery: access.event_delivery,
        }
    }

    fn guest(&self) -> Option<Guest> {
        self.case.guest.map(|guest| Guest {
            pat: guest.pat.into(),
            cr0_cd: guest.cr0_cd,
            cr0_pg: guest.cr0_pg,
        })
    }
}

#[cfg(test)]
mod tests;
