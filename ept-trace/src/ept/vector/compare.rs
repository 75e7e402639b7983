//! Holds what came of a walk against what had to.

use std::fmt::{self, Debug, Write as _};

use super::super::{
    Convertible, Guest, InvalidPointer, Misconfiguration, Outcome, Rights, SubPageEvent,
    Translation, Via, Violation, Walk,
};
use super::Came;
use super::expect::{
    EptMisconfig, EptViolation, Expect, ExpectedTranslation, FlagBits, Flags, SppEvent, SppReason,
    VmentryFail,
};
use super::format::Number;

/// VM entry with invalid control fields.
const INVALID_CONTROLS: u64 = 7;

/// What differs, in words; empty if nothing does.
#[derive(Default)]
struct Differences(String);

impl Differences {
    /// Compares if something is expected at all.
    fn field<T: PartialEq + Debug>(&mut self, name: &str, expected: Option<T>, got: &T) {
        if let Some(expected) = expected.filter(|expected| expected != got) {
            self.add(name, format_args!("{expected:?}"), format_args!("{got:?}"));
        }
    }

    /// Compares the bits of a mask, which must all be defined.
    fn masked(
        &mut self,
        name: &str,
        expected: Option<Number>,
        mask: Option<Number>,
        got: u64,
        defined: u64,
    ) {
        let mask = mask.map_or(defined, |mask| mask.0);
        if mask & !defined != 0 {
            self.add(name, format_args!("defined bits {mask:#x}"), format_args!("{defined:#x}"));
        }
        if let Some(Number(expected)) = expected
            && (expected ^ got) & mask != 0
        {
            let of = if mask == u64::MAX { String::new() } else { format!(" of {mask:#x}") };
            self.add(name, format_args!("{expected:#x}{of}"), format_args!("{got:#x}"));
        }
    }

    fn add(&mut self, name: &str, expected: fmt::Arguments<'_>, got: fmt::Arguments<'_>) {
        let separator = if self.0.is_empty() { "" } else { "; " };
        // A String takes everything.
        let _ = write!(self.0, "{separator}{name}: expected {expected}, got {got}");
    }

    fn result(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

impl Expect {
    /// Holds what came against it.
    pub(super) fn compare(&self, came: &Came, guest: Option<Guest>) -> Result<(), String> {
        let mut differences = Differences::default();
        match (self, came) {
            (Expect::VmentryFail(expected), Came::Refused(got)) => {
                differences.refusal(expected, *got);
            }
            (_, Came::Refused(got)) => {
                return Err(format!(
                    "expected {self:?}, got an EPTP that VM entry refuses: {got:?}"
                ));
            }
            (expected, Came::Walk(walk)) => match (expected, walk.outcome) {
                (Expect::Translation(expected), Outcome::Translation(got)) => {
                    differences.translation(expected, &got, walk, guest);
                }
                (Expect::EptViolation(expected), Outcome::Violation(got)) => {
                    differences.violation(expected, got);
                }
                (Expect::EptMisconfig(expected), Outcome::Misconfiguration { level, reasons }) => {
                    differences.misconfiguration(expected, level, reasons);
                }
                (Expect::SppEvent(expected), Outcome::SubPage(got)) => {
                    differences.sub_page(expected, got);
                }
                (Expect::Npf(expected), Outcome::NestedFault(got)) => {
                    differences.field("level", expected.level, &got.level);
                    let mask = expected.exitinfo1_mask;
                    differences.masked(
                        "exitinfo1",
                        expected.exitinfo1,
                        mask,
                        got.exitinfo1,
                        got.mask,
                    );
                }
                (Expect::NotInDump(expected), Outcome::NotInDump { at, level }) => {
                    differences.masked("at", expected.at, None, at.0, u64::MAX);
                    differences.field("level", expected.level, &level);
                }
                (Expect::LogFull {}, Outcome::LogFull)
                | (Expect::GpaNotRepresentable {}, Outcome::GpaNotRepresentable) => {}
                (expected, got) => return Err(format!("expected {expected:?}, got {got:?}")),
            },
        }
        differences.result()
    }
}

impl Differences {
    fn refusal(&mut self, expected: &VmentryFail, got: InvalidPointer) {
        self.field("vm_instruction_error", expected.vm_instruction_error, &INVALID_CONTROLS);
        let one = expected.reason.map(InvalidPointer::from);
        self.field("reason", one.filter(|one| !got.intersects(*one)), &got);
        let all = expected.reasons.as_ref();
        let all = all.map(|all| all.iter().copied().map(InvalidPointer::from).collect());
        self.field("reasons", all, &got);
    }

    fn misconfiguration(&mut self, expected: &EptMisconfig, level: u8, got: Misconfiguration) {
        self.field("level", expected.level, &level);
        let one = expected.reason.map(Misconfiguration::from);
        self.field("reason", one.filter(|one| !got.intersects(*one)), &got);
        let all = expected.reasons.as_ref();
        let all = all.map(|all| all.iter().copied().map(Misconfiguration::from).collect());
        self.field("reasons", all, &got);
    }

    fn sub_page(&mut self, expected: &SppEvent, got: SubPageEvent) {
        let SubPageEvent { miss, qualification, mask } = got;
        self.masked(
            "qualification",
            expected.qualification,
            expected.qual_mask,
            qualification,
            mask,
        );
        self.field("miss", expected.reason.map(|it| matches!(it, SppReason::Miss)), &miss);
    }

    fn violation(&mut self, expected: &EptViolation, got: Violation) {
        let Violation { level, qualification, mask, convertible } = got;
        self.field("level", expected.level, &level);
        self.masked(
            "qualification",
            expected.qualification,
            expected.qual_mask,
            qualification,
            mask,
        );
        self.field(
            "convertible_to_ve",
            expected.convertible_to_ve.map(Convertible::from),
            &convertible,
        );
    }

    fn translation(
        &mut self,
        expected: &ExpectedTranslation,
        got: &Translation,
        walk: &Walk,
        guest: Option<Guest>,
    ) {
        self.masked("hpa", expected.hpa, None, got.hpa.0, u64::MAX);
        self.field("page_size", expected.page_size, &got.page_size());
        let memory_type = got.memory.map(|memory| memory.memory_type.name());
        self.field("ept_memtype", expected.ept_memtype.as_deref().map(Some), &memory_type);
        self.field("ipat", expected.ipat.map(Some), &got.memory.map(|memory| memory.ipat));
        self.field("rights", expected.rights.as_deref().map(parse_rights), &Ok(got.rights));
        let effective = got.memory.zip(guest).map(|(memory, guest)| memory.effective(guest).name());
        let expected_effective = expected.effective_memtype.as_deref().map(Some);
        self.field("effective_memtype", expected_effective, &effective);
        self.field("via", expected.via.map(|via| Some(Via::from(via))), &got.via);
        let set = walk.trail.iter().filter_map(|step| flags_set(got, step.level)).collect();
        self.field("ad_set", expected.ad_set.clone(), &set);
    }
}

fn flags_set(translation: &Translation, level: u8) -> Option<Flags> {
    let dirty = translation.dirty && level == translation.level;
    let bits = match (translation.sets_accessed(level), dirty) {
        (true, true) => FlagBits::Ad,
        (true, false) => FlagBits::A,
        (false, true) => FlagBits::D,
        (false, false) => return None,
    };
    Some(Flags { level, bits })
}

/// Of `rwxu`, with a dash for what is missing.
fn parse_rights(text: &str) -> Result<Rights, String> {
    text.chars()
        .map(|letter| match letter {
            'r' => Ok(Rights::READ),
            'w' => Ok(Rights::WRITE),
            'x' => Ok(Rights::EXECUTE),
            'u' => Ok(Rights::USER),
            '-' => Ok(Rights::empty()),
            _ => Err(format!("{text:?} are no rights")),
        })
        .collect()
}
