//! The `format` files of tracefs, which say where the fields of an event are.
//!
//! Logs in binary carry those of the kernel that wrote them. A field is looked for by its name, and
//! never by the kernel's version.

use std::str::FromStr;

/// What the `format` file of an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// `ID`, which `common_type` of the event has.
    pub id: u16,
    /// The directory of tracefs that it is in, such as `kvm`.
    pub system: String,
    /// `name`.
    pub name: String,
    /// In the order of the file, those that all events have among them.
    pub fields: Vec<Field>,
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where it is from the begin of the event, in bytes.
    pub offset: u16,
    /// Its size in bytes; 0 for an array that goes to the end of the event.
    pub size: u16,
    /// Whether it is a signed number. Very old kernels do not say; it is not one then.
    pub is_signed: bool,
    /// It is an array whose size each event tells, or (`__data_loc`, `__rel_loc`) says where one is.
    pub is_dynamic: bool,
}

/// Why a `format` file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFormat {
    /// There is no such line in it, or no good one.
    #[error("no good `{0}:`")]
    Missing(&'static str),
    /// No system can have the name that is told.
    #[error("a system with an impossible name")]
    System,
    /// A line of a field is not as the kernel writes it.
    #[error("a field that cannot be read: {0:?}")]
    Field(String),
    /// An event that is to be decoded has no such number.
    #[error("{event} has no number {field:?}")]
    NoNumber {
        /// `SYSTEM:NAME`.
        event: String,
        /// The field.
        field: &'static str,
    },
    /// Two fields of an event that is to be decoded are in one place.
    #[error("{event} has {field:?} where it has another field")]
    Overlap {
        /// `SYSTEM:NAME`.
        event: String,
        /// The second of the fields.
        field: String,
    },
    /// Two events with one ID.
    #[error("{event} has the ID {id} of another event")]
    SameId {
        /// `SYSTEM:NAME`.
        event: String,
        /// Of both.
        id: u16,
    },
}

impl Format {
    /// Reads the text of `events/SYSTEM/EVENT/format`.
    ///
    /// # Errors
    ///
    /// [`BadFormat::Missing`] and [`BadFormat::Field`].
    pub fn parse(system: &str, text: &str) -> Result<Self, BadFormat> {
        let (mut name, mut id) = (None, None);
        let mut fields = Vec::new();
        for line in text.lines() {
            match line.trim_ascii().split_once(':') {
                Some(("name", value)) => name = Some(value.trim_ascii()),
                Some(("ID", value)) => id = number(value),
                Some(("field" | "field special", _)) => fields.push(Field::parse(line)?),
                // The last of them, and the only one that may say anything.
                Some(("print fmt", _)) => break,
                _ => {}
            }
        }
        let name = name.filter(|name| is_name(name)).ok_or(BadFormat::Missing("name"))?;
        if !is_name(system) {
            return Err(BadFormat::System);
        }
        let id = id.ok_or(BadFormat::Missing("ID"))?;
        Ok(Self { id, system: system.to_owned(), name: name.to_owned(), fields })
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Where the last field ends, in bytes.
    pub fn end(&self) -> usize {
        self.fields.iter().map(Field::end).max().unwrap_or(0)
    }

    /// A field that begins before another ends, which none does that the kernel wrote.
    pub fn overlapping(&self) -> Option<&Field> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|field| field.offset);
        let pairs = fields.windows(2);
        let mut overlapping = pairs.filter(|two| two[0].end() > usize::from(two[1].offset));
        overlapping.next().map(|two| two[1])
    }

    /// `SYSTEM:NAME`.
    pub fn event(&self) -> String {
        format!("{}:{}", self.system, self.name)
    }
}

impl Field {
    /// Reads a line such as `field:int common_pid; offset:4; size:4; signed:1;`.
    ///
    /// # Errors
    ///
    /// [`BadFormat::Field`].
    pub fn parse(line: &str) -> Result<Self, BadFormat> {
        Self::read(line).ok_or_else(|| BadFormat::Field(line.chars().take(80).collect()))
    }

    /// Where it ends, in bytes.
    fn end(&self) -> usize {
        usize::from(self.offset) + usize::from(self.size)
    }

    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split(';').filter_map(|part| part.trim_ascii().split_once(':'));
        let declaration = parts.next()?.1.trim_ascii();
        let (mut offset, mut size, mut is_signed) = (None, None, false);
        for (what, value) in parts {
            match what {
                "offset" => offset = Some(number(value)?),
                "size" => size = Some(number(value)?),
                "signed" => is_signed = number::<u8>(value)? != 0,
                _ => {}
            }
        }
        // `char comm[16]`, `__data_loc char[] name`, `const char * message`.
        let last = declaration.rsplit([' ', '\t', '*']).next()?;
        let name = last.split('[').next().filter(|name| !name.is_empty())?;
        let is_elsewhere =
            ["__data_loc", "__rel_loc"].iter().any(|&it| declaration.starts_with(it));
        let size = size?;
        Some(Self {
            name: name.to_owned(),
            offset: offset?,
            size,
            is_signed,
            is_dynamic: is_elsewhere || size == 0,
        })
    }
}

/// The kernel has only such names of events and systems.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHED_WAKING: &str = "name: sched_waking\nID: 312\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n\
        \tfield:const char * message;\toffset:32;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned long caller[];\toffset:40;\tsize:0;\tsigned:0;\n\n\
        print fmt: \"comm=%s: \\n\", REC->comm\nname: another\n";

    #[test]
    fn fields_have_their_place_and_kind() {
        let format = Format::parse("sched", SCHED_WAKING).unwrap();
        assert_eq!((format.id, format.event().as_str()), (312, "sched:sched_waking"));
        let kinds: Vec<_> = format
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.offset, field.size, field.is_dynamic))
            .collect();
        let expected = [
            ("common_type", 0, 2, false),
            ("common_pid", 4, 4, false),
            ("comm", 8, 16, false),
            ("name", 24, 4, true),
            ("message", 32, 8, false),
            ("caller", 40, 0, true),
        ];
        assert_eq!(kinds, expected);
        assert!(format.field("common_pid").unwrap().is_signed);
        assert!(!format.field("common_type").unwrap().is_signed);
        assert_eq!(format.field("pid"), None);
    }

    #[test]
    fn what_is_missing_or_bad_is_named() {
        let parse = |from: &str, to: &str| Format::parse("sched", &SCHED_WAKING.replace(from, to));
        assert_eq!(parse("ID: 312", "").unwrap_err(), BadFormat::Missing("ID"));
        assert_eq!(parse("ID: 312", "ID: 65536").unwrap_err(), BadFormat::Missing("ID"));
        for name in ["", "sched waking", "sched\u{1}waking", "schéd"] {
            assert_eq!(parse("sched_waking", name).unwrap_err(), BadFormat::Missing("name"));
        }
        assert_eq!(Format::parse("\nsched", SCHED_WAKING).unwrap_err(), BadFormat::System);
        for (from, to) in [
            ("offset:24", "offset:-1"),
            ("offset:24", "offset:65536"),
            ("size:4;\tsigned:0", "siz:4;\tsigned:0"),
            ("int common_pid", ""),
        ] {
            assert!(matches!(parse(from, to), Err(BadFormat::Field(_))), "{from} {to}");
        }
    }
}
