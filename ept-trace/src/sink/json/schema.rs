//! JSON Schemas of what is written as JSON lines, derived from the very types that are written.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::Line;
use crate::model::Event;

/// Of the lines that [`Json`](super::Json) writes.
pub fn lines() -> Schema {
    of::<Line<'_>>("A JSON line of ept-trace")
}

/// Of the lines that [`Observations`](crate::sink::Observations) writes.
pub fn observations() -> Schema {
    of::<Event>("An observation of ept-trace")
}

fn of<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema
}
