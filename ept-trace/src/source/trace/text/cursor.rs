//! Numbers and words of a line, read from its bytes.

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
        let many = self.0.iter().take_while(|byte| **byte == b' ').count();
        self.0 = &self.0[many..];
    }

    /// The bytes before the next space or the end; none are left out.
    #[inline]
    pub fn word(&mut self) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| **byte != b' ').count();
        let (word, rest) = self.0.split_at(length);
        self.0 = rest;
        word
    }

    /// A decimal number, of one digit at least.
    #[inline]
    pub fn decimal(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        let mut length = 0;
        for byte in self.0 {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            length += 1;
        }
        self.0 = &self.0[length..];
        (length > 0).then_some(number)
    }

    /// A hexadecimal number of sixteen digits at most, with or without 0x.
    #[inline]
    pub fn hex(&mut self) -> Option<u64> {
        self.0 = self.0.strip_prefix(b"0x").unwrap_or(self.0);
        let mut number = 0_u64;
        let mut length = 0;
        for byte in self.0 {
            let digit = HEX[usize::from(*byte)];
            if digit > 15 {
                break;
            }
            number = number << 4 | u64::from(digit);
            length += 1;
        }
        self.0 = &self.0[length..];
        (1..=16).contains(&length).then_some(number)
    }

    /// A decimal number that is a word of its own.
    #[inline]
    pub fn decimal_word(&mut self) -> Option<u64> {
        let number = self.decimal()?;
        self.is_between_words().then_some(number)
    }

    /// A hexadecimal number that is a word of its own.
    #[inline]
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
    #[inline]
    pub fn time(&mut self) -> Option<u64> {
        let seconds = self.decimal()?;
        let Some(decimals) = self.0.strip_prefix(b".") else { return Some(seconds) };
        self.0 = decimals;
        let part = self.decimal()?;
        let nines = 9_usize.checked_sub(decimals.len() - self.0.len())?;
        let part = part * 10_u64.pow(u32::try_from(nines).ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(part)
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
