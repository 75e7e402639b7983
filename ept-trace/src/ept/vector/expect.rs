//! What has to come of a case. Fields that are left out are not compared.

use serde::{Deserialize, Deserializer};

use super::super::{Convertible, InvalidPointer, Misconfiguration, Via};
use super::format::Number;

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Expect {
    Translation(ExpectedTranslation),
    EptViolation(EptViolation),
    EptMisconfig(EptMisconfig),
    SppEvent(SppEvent),
    #[serde(alias = "pml_full", alias = "pml_log_full")]
    LogFull {},
    VmentryFail(VmentryFail),
    Npf(Npf),
    GpaNotRepresentable {},
    NotInDump(NotInDump),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedTranslation {
    pub hpa: Option<Number>,
    pub page_size: Option<u64>,
    pub ept_memtype: Option<String>,
    pub ipat: Option<bool>,
    pub rights: Option<String>,
    pub effective_memtype: Option<String>,
    /// Exactly the flags that the walk sets.
    pub ad_set: Option<Vec<Flags>>,
    pub via: Option<ExpectedVia>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EptViolation {
    #[serde(default, deserialize_with = "stated")]
    pub level: Stated<u8>,
    pub qualification: Option<Number>,
    /// Which bits of it are compared; all that are defined, if it is left out.
    pub qual_mask: Option<Number>,
    pub convertible_to_ve: Option<ExpectedConvertible>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EptMisconfig {
    pub level: Option<u8>,
    /// One of the reasons.
    pub reason: Option<ExpectedMisconfiguration>,
    /// All reasons.
    pub reasons: Option<Vec<ExpectedMisconfiguration>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SppEvent {
    pub qualification: Option<Number>,
    /// Which bits of it are compared; all that are defined, if it is left out.
    pub qual_mask: Option<Number>,
    pub reason: Option<SppReason>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VmentryFail {
    pub vm_instruction_error: Option<u64>,
    /// One of the reasons.
    pub reason: Option<ExpectedInvalidPointer>,
    /// All reasons.
    pub reasons: Option<Vec<ExpectedInvalidPointer>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Npf {
    #[serde(default, deserialize_with = "stated")]
    pub level: Stated<u8>,
    pub exitinfo1: Option<Number>,
    /// Which bits of it are compared; all that can be relied on, if it is left out.
    pub exitinfo1_mask: Option<Number>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotInDump {
    pub at: Option<Number>,
    pub level: Option<u8>,
}

/// Left out, or given and perhaps null.
type Stated<T> = Option<Option<T>>;

fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stated<u8>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Flags that the walk sets in the entry of a level.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Flags {
    pub level: u8,
    /// `A`, `D` or `AD`.
    pub bits: FlagBits,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum FlagBits {
    A,
    D,
    #[serde(alias = "DA")]
    Ad,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExpectedVia {
    PagingWrite,
    #[serde(alias = "sub_page", alias = "subpage", alias = "spp_vector")]
    Spp,
    #[serde(alias = "shadow_stack", alias = "supervisor_shadow_stack")]
    Sss,
}

impl From<ExpectedVia> for Via {
    fn from(via: ExpectedVia) -> Self {
        match via {
            ExpectedVia::PagingWrite => Self::PagingWrite,
            ExpectedVia::Spp => Self::SubPage,
            ExpectedVia::Sss => Self::ShadowStack,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "true, false or \"unspecified\"")]
pub(super) enum ExpectedConvertible {
    Known(bool),
    Unspecified(Unspecified),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unspecified {
    Unspecified,
}

impl From<ExpectedConvertible> for Convertible {
    fn from(convertible: ExpectedConvertible) -> Self {
        match convertible {
            ExpectedConvertible::Known(true) => Self::Yes,
            ExpectedConvertible::Known(false) => Self::No,
            ExpectedConvertible::Unspecified(Unspecified::Unspecified) => Self::Unspecified,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExpectedMisconfiguration {
    WriteWithoutRead,
    ExecuteWithoutReadUnsupported,
    PagingWriteWithoutRead,
    #[serde(alias = "reserved")]
    ReservedBits,
    #[serde(alias = "memtype")]
    BadMemtype,
}

impl From<ExpectedMisconfiguration> for Misconfiguration {
    fn from(reason: ExpectedMisconfiguration) -> Self {
        match reason {
            ExpectedMisconfiguration::WriteWithoutRead => Self::WRITE_WITHOUT_READ,
            ExpectedMisconfiguration::ExecuteWithoutReadUnsupported => {
                Self::EXECUTE_WITHOUT_READ_UNSUPPORTED
            }
            ExpectedMisconfiguration::PagingWriteWithoutRead => Self::PAGING_WRITE_WITHOUT_READ,
            ExpectedMisconfiguration::ReservedBits => Self::RESERVED_BITS,
            ExpectedMisconfiguration::BadMemtype => Self::BAD_MEMTYPE,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SppReason {
    #[serde(alias = "misconfiguration", alias = "spp_misconfig")]
    Misconfig,
    #[serde(alias = "spp_miss")]
    Miss,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExpectedInvalidPointer {
    Memtype,
    WalkLength,
    AdUnsupported,
    #[serde(alias = "sss")]
    SssUnsupported,
    #[serde(alias = "reserved", alias = "reserved_bits")]
    ReservedLow,
    AddressWidth,
}

impl From<ExpectedInvalidPointer> for InvalidPointer {
    fn from(reason: ExpectedInvalidPointer) -> Self {
        match reason {
            ExpectedInvalidPointer::Memtype => Self::MEMTYPE,
            ExpectedInvalidPointer::WalkLength => Self::WALK_LENGTH,
            ExpectedInvalidPointer::AdUnsupported => Self::AD_UNSUPPORTED,
            ExpectedInvalidPointer::SssUnsupported => Self::SSS_UNSUPPORTED,
            // 29.2.1.1 counts bit 7 among the reserved.
            ExpectedInvalidPointer::ReservedLow => Self::RESERVED_LOW | Self::SSS_UNSUPPORTED,
            ExpectedInvalidPointer::AddressWidth => Self::ADDRESS_WIDTH,
        }
    }
}
