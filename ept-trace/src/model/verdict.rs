//! What a rule answers.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of a rule about one observation.
///
/// In the order of severity: the worst of several is their maximum.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Observation and expectation agree.
    Ok,
    /// Legal, and will hurt someone.
    Advisory,
    /// A fact is missing without which nobody can tell.
    Undetermined,
    /// Observation and expectation disagree.
    Mismatch,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Advisory => "advisory",
            Self::Undetermined => "undetermined",
            Self::Mismatch => "MISMATCH",
        })
    }
}

/// One value that a judgement rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it is, in the kernel's own terms.
    pub what: String,
    /// Its value, as a person reads it.
    pub value: String,
    /// Where it came from: a hook, a symbol, a register, the user.
    pub origin: String,
}

impl Evidence {
    /// A value and where it came from.
    pub fn new(what: &str, value: impl fmt::Display, origin: impl Into<String>) -> Self {
        Self { what: what.to_owned(), value: value.to_string(), origin: origin.into() }
    }
}

/// What one rule says of one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The rule, such as `EPT103`.
    pub rule: &'static str,
    /// Its answer.
    pub verdict: Verdict,
    /// The answer in words: both values if they disagree, the missing fact if undetermined.
    pub message: Cow<'static, str>,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// Why it is accepted, if it is a known finding.
    pub known: Option<Box<str>>,
}
