//! `dmesg -J`: JSON, of which each line is a member of an object.
//!
//! ```text
//! {
//!    "dmesg": [
//!       {
//!          "pri": 3,
//!          "time":    33.899543,
//!          "caller": "T78789",
//!          "msg": "EPT pointer = 0x00000000065d305e"
//!       },{
//! ```

use std::borrow::Cow;

use super::clock::Stamp;
use super::envelope::Caller;
use super::scan::split;
use super::stamp;

/// The members of an object that come before its message.
#[derive(Debug, Default)]
pub(super) struct Members {
    stamp: Stamp,
    caller: Option<Caller>,
}

/// A message with what its object said before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub stamp: Stamp,
    pub caller: Option<Caller>,
    pub text: Cow<'a, [u8]>,
}

impl Members {
    /// Takes in a line. The message, if it is that.
    pub(super) fn line<'a>(&mut self, line: &'a [u8]) -> Option<Message<'a>> {
        let member = line.trim_ascii().strip_prefix(b"\"")?;
        let (name, value) = split(member, b'"')?;
        let value = value.strip_prefix(b":")?.trim_ascii();
        let value = value.strip_suffix(b",").unwrap_or(value);
        match name {
            b"time" => {
                *self = Self::default();
                self.stamp.boot_ns = stamp::boot(value);
            }
            b"caller" => self.caller = string(value).and_then(|text| Caller::of(&text)),
            b"msg" => {
                let Self { stamp, caller } = std::mem::take(self);
                return Some(Message { stamp, caller, text: string(value)? });
            }
            _ => {}
        }
        None
    }
}

/// What a string of JSON stands for.
fn string(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if value.contains(&b'\\') {
        let text: String = serde_json::from_slice(value).ok()?;
        return Some(Cow::Owned(text.into_bytes()));
    }
    Some(Cow::Borrowed(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_put_together() {
        let mut members = Members::default();
        for line in ["{", "   \"dmesg\": [", "      {", "         \"pri\": 3,"] {
            assert_eq!(members.line(line.as_bytes()), None);
        }
        assert_eq!(members.line(b"         \"time\":    33.899543,"), None);
        assert_eq!(members.line(b"         \"caller\": \"T78789\","), None);
        let message = members.line(br#"         "msg": "a \"b\" \u00e9""#).unwrap();
        assert_eq!(message.stamp.boot_ns, Some(33_899_543_000));
        assert_eq!(message.caller, Some(Caller::Thread(78789)));
        assert_eq!(&message.text[..], "a \"b\" é".as_bytes());
        let next = members.line(b"\"msg\":\"x\",").unwrap();
        assert_eq!((next.stamp, next.caller, &next.text[..]), (Stamp::default(), None, &b"x"[..]));
    }

    #[test]
    fn what_is_none_of_it_does_no_harm() {
        let mut members = Members::default();
        for line in ["", "\"", "\"caller\":", "\"caller\": \"", "\"caller\": 7", "\"msg\": \"\\x\""]
        {
            assert_eq!(members.line(line.as_bytes()), None, "{line}");
        }
    }
}
