//! One line of a frame, one observation.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::model::{Event, EventKind};

/// Reads an observation.
///
/// # Errors
///
/// If it is none that this program knows.
pub fn event(line: &[u8]) -> serde_json::Result<Event> {
    match serde_json::from_slice(line) {
        Ok(Frequent(event)) => Ok(event),
        Err(_) => serde_json::from_slice(line),
    }
}

/// An observation of a kind that there are many of, its members in the order in which they are
/// written. It is read in half the time: what an [`Event`] is made of is put aside first, for its kind
/// may be told last.
struct Frequent(Event);

impl<'de> Deserialize<'de> for Frequent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Frequent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a frequent observation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Frequent, A::Error> {
        let time_ns = member(&mut members, "time_ns")?;
        let kind = member(&mut members, "event")?;
        let rest = MapAccessDeserializer::new(members);
        let kind = match kind {
            "decision" => EventKind::Decision(Deserialize::deserialize(rest)?),
            "load" => EventKind::Load(Deserialize::deserialize(rest)?),
            "spte_change" => EventKind::SpteChange(Deserialize::deserialize(rest)?),
            "walk" => EventKind::Walk(Deserialize::deserialize(rest)?),
            _ => return Err(A::Error::custom("not frequent")),
        };
        Ok(Frequent(Event { time_ns, kind }))
    }
}

/// The next member, which must have this name.
fn member<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    members: &mut A,
    name: &str,
) -> Result<T, A::Error> {
    match members.next_key::<&str>()? {
        Some(next) if next == name => members.next_value(),
        _ => Err(A::Error::custom("not in the order that is written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_in_the_short_way_is_what_it_is_in_the_long_one() {
        let files = [
            include_str!("../../../tests/corpus/history-svm-6.12.jsonl"),
            include_str!("../../../tests/corpus/nested-vmx5-6.12.jsonl"),
            include_str!("../../../tests/corpus/vmx-5.10.jsonl"),
        ];
        let mut frequent = 0;
        for line in files.iter().flat_map(|file| file.lines()) {
            let long: Event = serde_json::from_str(line).expect("an observation");
            assert_eq!(event(line.as_bytes()).expect("the same"), long);
            frequent += usize::from(serde_json::from_str::<Frequent>(line).is_ok());
        }
        assert!(frequent > 500, "{frequent}");
    }

    #[test]
    fn other_orders_and_kinds_are_read_too() {
        for line in [
            r#"{"event":"spte_change","time_ns":7,"gfn":5,"later":[1]}"#,
            r#"{"gfn":5,"time_ns":7,"event":"spte_change"}"#,
            r#"{"time_ns":7,"\u0065vent":"spte_change","gfn":5}"#,
            r#" {"time_ns" : 7, "event":"spte_change","gfn":5}"#,
            r#"{"time_ns":7,"event":"vm_gone","vm":5}"#,
        ] {
            let long = serde_json::from_str::<Event>(line).map_err(|err| err.to_string());
            let read = event(line.as_bytes()).map_err(|err| err.to_string());
            assert_eq!(read, long, "{line}");
        }
        assert!(event(br#"{"time_ns":7,"event":"spte_change","gfn":-5}"#).is_err());
    }
}
