//! Fields by their names: what `trace-cmd report -R` prints, the fall-back `[FAILED TO PARSE]`, and
//! the option `fields` of ftrace.
//!
//! ```text
//! gfn=262144 role=6018 created=1                       -R of a print format that cannot be parsed
//! gfn=40000 old_spte=0 new_spte=3febd827 level=5       -R of one that can
//! gfn=0x40000 (262144) role=0x1782 (6018) created=(1)  fields
//! ```
//!
//! libtraceevent decides for each field, and so does this module:
//!
//! - A number with 0x is hexadecimal.
//! - Without a print format that can be parsed, an integer is decimal, and one of the C type `long` is
//!   hexadecimal with 0x. The format of `kvm_mmu_get_page` and `kvm_mmu_prepare_zap_page` is never
//!   parsed, for it is a statement of C; `[FAILED TO PARSE]` says it of any event.
//! - With one, a field is printed as the format prints it: `%llx` gives hexadecimal without 0x. But
//!   older versions of the library print every field in the way before. Which version made a log is
//!   found out from its first lines ([`Bare::of`]). Where it cannot be, a number is read only if it
//!   is the same in both.

use super::super::cursor::{Cursor, whole_decimal, whole_hex};
use super::super::line::{Event, Line};
use super::Flaw;

/// What libtraceevent prints before fields whose print format it cannot parse.
const FAILED: &[u8] = b"[FAILED TO PARSE]";

/// How a number without 0x is to be read, of a field that the print format has in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bare {
    /// As the print format has it.
    Hex,
    /// As its C type has it.
    Decimal,
    /// The log does not tell.
    #[default]
    Unknown,
}

/// How the kernel's print format has a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radix {
    Hex,
    Decimal,
}

/// Fields that are looked for.
pub type Wanted<'a> = (&'a [u8], Radix);

/// Reads the fields that are wanted, each of which may be missing.
pub fn read<const N: usize>(
    payload: &[u8],
    bare: Bare,
    wanted: [Wanted<'_>; N],
) -> Result<[Option<u64>; N], Flaw> {
    let bare = if payload.starts_with(FAILED) { Bare::Decimal } else { bare };
    let mut values = [None; N];
    for field in fields(payload) {
        let Some(which) = wanted.iter().position(|(name, _)| *name == field.name) else {
            continue;
        };
        values[which] = Some(field.number(wanted[which].1, bare)?);
    }
    Ok(values)
}

/// `name=value`, and what `fields` repeats of it in decimal.
struct Field<'a> {
    name: &'a [u8],
    value: &'a [u8],
    decimal: Option<&'a [u8]>,
}

fn fields(payload: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = Cursor(payload.strip_prefix(FAILED).unwrap_or(payload));
    std::iter::from_fn(move || {
        loop {
            rest.spaces();
            let word = rest.word();
            if word.is_empty() {
                return None;
            }
            let Some(equals) = memchr::memchr(b'=', word) else { continue };
            let mut next = rest;
            next.spaces();
            let decimal = next.word();
            return Some(Field {
                name: &word[..equals],
                value: &word[equals + 1..],
                decimal: decimal.strip_prefix(b"(").and_then(|word| word.strip_suffix(b")")),
            });
        }
    })
}

impl Field<'_> {
    fn number(&self, radix: Radix, bare: Bare) -> Result<u64, Flaw> {
        if let Some(digits) = self.value.strip_prefix(b"0x") {
            let number = whole_hex(digits).ok_or(Flaw::Malformed)?;
            return if self.is_repeated(number) { Ok(number) } else { Err(Flaw::Malformed) };
        }
        // What `fields` makes of a byte.
        if let Some(byte) = self.value.strip_prefix(b"(") {
            let byte = byte.strip_suffix(b")").ok_or(Flaw::Malformed)?;
            return whole_decimal::<u8>(byte).map(u64::from).ok_or(Flaw::Malformed);
        }
        let (hex, decimal) = (whole_hex(self.value), whole_decimal::<u64>(self.value));
        let number = match (radix, bare) {
            (Radix::Decimal, _) | (Radix::Hex, Bare::Decimal) => decimal,
            (Radix::Hex, Bare::Hex) => hex,
            // A letter, or one digit: it can be read in one way alone.
            (Radix::Hex, Bare::Unknown) if decimal.is_none() || decimal == hex => hex,
            (Radix::Hex, Bare::Unknown) => return Err(Flaw::Radix),
        };
        number.ok_or(Flaw::Malformed)
    }

    /// Whether what `fields` has in parentheses is the same number. It is signed there.
    fn is_repeated(&self, number: u64) -> bool {
        let Some(decimal) = self.decimal else { return true };
        let Some(negative) = decimal.strip_prefix(b"-") else {
            return whole_decimal(decimal) == Some(number);
        };
        // Of eight bytes, or of four.
        whole_decimal(negative).is_some_and(|told: u64| {
            number.wrapping_neg() == told
                || u32::try_from(number)
                    .is_ok_and(|of_four| u64::from(of_four.wrapping_neg()) == told)
        })
    }
}

impl Bare {
    /// What proves in a log how its fields are printed, if anything does: `lines` are its first.
    pub(in super::super) fn of<'a>(lines: impl Iterator<Item = Line<'a>>) -> Self {
        let mut proofs = lines.filter_map(|line| match line {
            Line::Event(event) => proof(&event),
            _ => None,
        });
        proofs.next().unwrap_or_default()
    }
}

/// An integer that is printed without its format never has 0x. With its format it has, in those of the
/// first row; in those of the second it is hexadecimal without. That it is printed without its format
/// is concluded from none whose format may be too much for libtraceevent, as that of `kvm_exit` is.
fn proof(event: &Event<'_>) -> Option<Bare> {
    // So many digits are no longer a hexadecimal number of 64 bits.
    const MOST_HEX: usize = 16;
    if event.payload.starts_with(FAILED) {
        return None;
    }
    let (with_0x, without): (&[&[u8]], &[&[u8]]) = match event.name {
        b"kvm_exit" => (&[b"intr_info"], &[]),
        b"kvm_pio" => (&[b"port"], &[]),
        b"kvm_page_fault" if event.payload.starts_with(b"vcpu_id=") => (&[b"error_code"], &[]),
        b"kvm_tdp_mmu_spte_changed" => (&[], &[b"gfn", b"old_spte", b"new_spte"]),
        b"kvm_mmu_set_spte" => (&[], &[b"gfn", b"spte", b"sptep"]),
        b"kvm_mmu_spte_requested" => (&[], &[b"gfn", b"pfn"]),
        _ => return None,
    };
    fields(event.payload).find_map(|field| {
        let Field { name, value, .. } = field;
        let is_decimal = whole_decimal::<u64>(value).is_some();
        let is_hex = whole_hex(value).is_some();
        let has_0x = value.starts_with(b"0x");
        if with_0x.contains(&name) {
            let is_decimal = is_decimal && event.name != b"kvm_exit";
            return if has_0x && is_hex {
                Some(Bare::Hex)
            } else {
                is_decimal.then_some(Bare::Decimal)
            };
        }
        if !without.contains(&name) || has_0x {
            return None;
        }
        match (is_decimal, is_hex) {
            (true, _) => (value.len() > MOST_HEX).then_some(Bare::Decimal),
            (false, hex) => hex.then_some(Bare::Hex),
        }
    })
}
