//! Numbers and words of a line, read from its bytes.

use super::scan;

/// What each byte is worth as a hexadecimal digit, or more than any digit. The kernel and its tools
/// write small letters.
const HEX: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// What the last of so many decimals of a second is worth, in nanoseconds.
const UNITS_NS: [u64; 10] =
    [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// Passes over what must come next.
    #[inline]
    pub fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// Passes over spaces, if there are any.
    #[inline]
    pub fn spaces(&mut self) {
        self.0 = scan::behind(self.0, b' ');
    }

    /// The bytes before the next space or the end; none are left out.
    #[inline]
    pub fn word(&mut self) -> &'a [u8] {
        let length = scan::find(self.0, [b' ']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(length);
        self.0 = rest;
        word
    }

    /// A decimal number, of one digit at least.
    #[inline]
    pub fn decimal(&mut self) -> Option<u64> {
        self.decimal_on(0, self.0)
    }

    /// A decimal number that is likely to have several digits.
    #[inline]
    fn long_decimal(&mut self) -> Option<u64> {
        let (number, rest) = scan::decimal(self.0);
        self.decimal_on(number, rest)
    }

    /// The first digits are read already, and `rest` is behind them.
    #[inline]
    fn decimal_on(&mut self, mut number: u64, mut rest: &'a [u8]) -> Option<u64> {
        while let [digit @ b'0'..=b'9', behind @ ..] = rest {
            number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            rest = behind;
        }
        if rest.len() == self.0.len() {
            return None;
        }
        self.0 = rest;
        Some(number)
    }

    /// A hexadecimal number of sixteen digits at most, with or without 0x.
    #[inline(always)]
    pub fn hex(&mut self) -> Option<u64> {
        let text = if let [b'0', b'x', digits @ ..] = self.0 { digits } else { self.0 };
        let mut rest = text;
        let mut number = 0_u64;
        while let [byte, behind @ ..] = rest {
            let digit = HEX[usize::from(*byte)];
            if digit > 15 {
                break;
            }
            number = number << 4 | u64::from(digit);
            rest = behind;
        }
        self.0 = rest;
        (1..=16).contains(&(text.len() - rest.len())).then_some(number)
    }

    /// A decimal number that is a word of its own.
    #[inline]
    pub fn decimal_word(&mut self) -> Option<u64> {
        let number = self.decimal()?;
        self.is_between_words().then_some(number)
    }

    /// A hexadecimal number that is a word of its own.
    #[inline(always)]
    pub fn hex_word(&mut self) -> Option<u64> {
        let number = self.hex()?;
        self.is_between_words().then_some(number)
    }

    /// At the end of a word. One may have a comma behind it.
    fn is_between_words(self) -> bool {
        matches!(self.0, [] | [b' ', ..] | [b',', b' ', ..])
    }

    /// Passes over what is behind the bracket of a CPU: three digits or more, as all tools print it.
    #[inline]
    pub fn cpu(&mut self) -> Option<()> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.0 = &self.0[digits..];
        self.literal(b"] ").filter(|()| digits >= 3)
    }

    /// A time in nanoseconds: seconds with up to nine decimals. A whole number is what a clock that
    /// does not count nanoseconds has counted, and is taken as it is.
    #[inline(always)]
    pub fn time(&mut self) -> Option<u64> {
        let seconds = self.decimal()?;
        let Some(decimals) = self.0.strip_prefix(b".") else { return Some(seconds) };
        self.0 = decimals;
        let part = self.long_decimal()?;
        let unit_ns = UNITS_NS.get(decimals.len() - self.0.len())?;
        seconds.checked_mul(UNITS_NS[0])?.checked_add(part * unit_ns)
    }
}

/// The last word before the end of `line`, and what is before it.
#[inline]
pub fn last_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = trim_end(line);
    let length = line.iter().rev().take_while(|byte| **byte != b' ').count();
    line.split_at(line.len() - length)
}

/// Without spaces at its end.
#[inline]
pub fn trim_end(line: &[u8]) -> &[u8] {
    let many = line.iter().rev().take_while(|byte| **byte == b' ').count();
    &line[..line.len() - many]
}

/// All of `word`, as a decimal number.
#[inline]
pub fn whole_decimal<T: TryFrom<u64>>(word: &[u8]) -> Option<T> {
    let mut cursor = Cursor(word);
    let number = cursor.decimal()?;
    cursor.0.is_empty().then(|| T::try_from(number).ok())?
}

/// All of `word`, as a hexadecimal number.
#[inline]
pub fn whole_hex(word: &[u8]) -> Option<u64> {
    let mut cursor = Cursor(word);
    let number = cursor.hex()?;
    cursor.0.is_empty().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decimal number is read as, and how much is left.
    fn decimal(text: &str) -> (Option<u64>, usize) {
        let mut cursor = Cursor(text.as_bytes());
        (cursor.decimal(), cursor.0.len())
    }

    #[test]
    fn a_decimal_number_of_any_length_ends_where_its_digits_do() {
        for length in 1..=20 {
            let digits = &"18446744073709551615"[..length];
            let number: u64 = digits.parse().unwrap();
            // All that may stand beside a digit in the table of characters, and what is far from it.
            for behind in
                ["", " ", "/", ":", "a", "\u{7f}", "\u{ff}", ".000001: kvm", "\0999999999"]
            {
                let read = decimal(&format!("{digits}{behind}"));
                assert_eq!(read, (Some(number), behind.len()), "{digits}{behind}");
            }
        }
        for too_large in
            ["18446744073709551616", "99999999999999999999", "100000000000000000000000"]
        {
            assert_eq!(decimal(too_large).0, None, "{too_large}");
        }
        for none in ["", " 1", "-1", "/123456789", ":123456789", "\u{b9}12345678"] {
            assert_eq!(decimal(none), (None, none.len()), "{none}");
        }
        assert_eq!(decimal("00000000000000000000000012 "), (Some(12), 1));
    }

    #[test]
    fn times_have_up_to_nine_decimals() {
        let time = |text: &str| Cursor(text.as_bytes()).time();
        assert_eq!(time("6.975646: "), Some(6_975_646_000));
        assert_eq!(time("6.975646123: "), Some(6_975_646_123));
        assert_eq!(time("4133.5"), Some(4_133_500_000_000));
        assert_eq!(
            (time("11793833: "), time("1.: "), time("1.1234567890")),
            (Some(11_793_833), None, None)
        );
    }
}
