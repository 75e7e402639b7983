//! A case as it is written.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::super as ept;
use super::expect::Expect;

/// A number, or a string such as `"0x1000"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(pub u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of 64 bits, or one in a string such as \"0x1000\"")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        }
        .map(Number)
        .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// `true`, `false`, 1 or 0.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "true, false, 1 or 0")]
    enum Flag {
        Bool(bool),
        Number(u64),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(value),
        Flag::Number(0) => Ok(false),
        Flag::Number(1) => Ok(true),
        Flag::Number(other) => {
            Err(de::Error::invalid_value(de::Unexpected::Unsigned(other), &"true, false, 1 or 0"))
        }
    }
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub id: u64,
    pub name: String,
    #[serde(default)]
    pub source: String,
    pub format: Format,
    pub caps: Caps,
    pub eptp: Option<Number>,
    pub ncr3: Option<Number>,
    pub gpa: Number,
    pub access: Access,
    pub guest: Option<Guest>,
    pub entries: Vec<Entry>,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Ept,
    Npt,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Caps {
    pub ept_vpid_cap: Option<Number>,
    pub maxphyaddr: u8,
    #[serde(default)]
    pub tme_keyid_bits: u8,
    #[serde(default)]
    pub controls: Controls,
}

/// Of both formats; what is not named is off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one bit of a register")]
pub(super) struct Controls {
    #[serde(deserialize_with = "flag")]
    pub mbe: bool,
    #[serde(deserialize_with = "flag")]
    pub spp: bool,
    #[serde(deserialize_with = "flag")]
    pub paging_write: bool,
    #[serde(deserialize_with = "flag")]
    pub guest_paging_verification: bool,
    #[serde(deserialize_with = "flag")]
    pub ve: bool,
    #[serde(deserialize_with = "flag")]
    pub nmi_exiting: bool,
    #[serde(deserialize_with = "flag")]
    pub virtual_nmis: bool,
    pub pml_index: Option<u16>,
    #[serde(deserialize_with = "flag")]
    pub nxe: bool,
    #[serde(deserialize_with = "flag")]
    pub la57: bool,
    #[serde(deserialize_with = "flag")]
    pub smep: bool,
    #[serde(deserialize_with = "flag")]
    pub gbpages: bool,
    #[serde(deserialize_with = "flag")]
    pub gmet: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Access {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub stage: Stage,
    #[serde(deserialize_with = "flag", default = "yes")]
    pub gla_valid: bool,
    #[serde(deserialize_with = "flag", default)]
    pub user: bool,
    /// Bytes, 1 to 128.
    pub length: Option<u8>,
    pub shadow_stack: Option<ShadowStack>,
    pub guest_leaf: Option<GuestLeaf>,
    #[serde(deserialize_with = "flag", default = "yes")]
    pub guest_tables_all_paging_write: bool,
    pub spp_vector: Option<Number>,
    #[serde(deserialize_with = "flag", default)]
    pub transactional: bool,
    #[serde(deserialize_with = "flag", default)]
    pub enclave: bool,
    #[serde(deserialize_with = "flag", default)]
    pub pebs: bool,
    #[serde(deserialize_with = "flag", default)]
    pub iret_nmi_unblock: bool,
    #[serde(deserialize_with = "flag", default)]
    pub event_delivery: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Read,
    Write,
    #[serde(alias = "rmw")]
    ReadModifyWrite,
    #[serde(alias = "execute")]
    Fetch,
}

impl From<Kind> for ept::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Read => Self::Read,
            Kind::Write => Self::Write,
            Kind::ReadModifyWrite => Self::ReadModifyWrite,
            Kind::Fetch => Self::Fetch,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Final,
    GuestTableRead,
    #[serde(alias = "guest_table_write")]
    GuestTableAdUpdate,
    PdpteLoad,
    Async,
}

impl From<Stage> for ept::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Final => Self::Final,
            Stage::GuestTableRead => Self::GuestTableRead,
            Stage::GuestTableAdUpdate => Self::GuestTableUpdate,
            Stage::PdpteLoad => Self::PdpteLoad,
            Stage::Async => Self::Asynchronous,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ShadowStack {
    User,
    Supervisor,
}

impl From<ShadowStack> for ept::ShadowStack {
    fn from(shadow_stack: ShadowStack) -> Self {
        match shadow_stack {
            ShadowStack::User => Self::User,
            ShadowStack::Supervisor => Self::Supervisor,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestLeaf {
    #[serde(deserialize_with = "flag")]
    pub user: bool,
    #[serde(deserialize_with = "flag")]
    pub writable: bool,
    #[serde(deserialize_with = "flag")]
    pub nx: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guest {
    #[serde(default)]
    pub pat: Pat,
    #[serde(deserialize_with = "flag", default)]
    pub cr0_cd: bool,
    #[serde(deserialize_with = "flag", default = "yes")]
    pub cr0_pg: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Pat {
    Uc,
    #[serde(rename = "UC-")]
    UcMinus,
    Wc,
    Wt,
    Wp,
    #[default]
    Wb,
}

impl From<Pat> for ept::Pat {
    fn from(pat: Pat) -> Self {
        match pat {
            Pat::Uc => Self::Uc,
            Pat::UcMinus => Self::UcMinus,
            Pat::Wc => Self::Wc,
            Pat::Wt => Self::Wt,
            Pat::Wp => Self::Wp,
            Pat::Wb => Self::Wb,
        }
    }
}

/// An entry of a table. The walk finds it by address; its level is for the reader.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(rename = "level")]
    _level: u8,
    pub table: Number,
    pub index: u16,
    pub value: Number,
}
