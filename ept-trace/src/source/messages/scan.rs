//! Numbers and words in a message.

/// Longer words are none that is looked for.
const MOST_WORD: usize = 64;

/// A hexadecimal number, with or without `0x`, at the begin of `text`, and what follows it. Nothing
/// if it does not fit into 64 bits, or runs into another word.
pub(super) fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    number::<16>(text.strip_prefix(b"0x").unwrap_or(text))
}

/// A decimal number at the begin of `text`, and what follows it.
pub(super) fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    number::<10>(text)
}

fn number<const RADIX: u32>(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut rest = text;
    while let [first, others @ ..] = rest
        && let Some(digit) = char::from(*first).to_digit(RADIX)
    {
        value = value.checked_mul(u64::from(RADIX))?.checked_add(u64::from(digit))?;
        rest = others;
    }
    let is_word = rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (rest.len() < text.len() && !is_word).then_some((value, rest))
}

/// What stands before the first `separator`, and after it.
pub(super) fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().take(MOST_WORD).position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// What follows the first `needle`.
pub(super) fn after<'a>(text: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(needle.len()).position(|window| window == needle)?;
    Some(&text[at + needle.len()..])
}

/// Whether one of `words` is somewhere in `text`.
pub(super) fn has_one_of(text: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| after(text, word).is_some())
}

/// Whether `text` begins with one of `words`.
pub(super) fn begins_with_one_of(text: &[u8], words: &[&[u8]]) -> bool {
    // Of the many lines of others the first byte tells most.
    words.iter().any(|word| word.first() == text.first() && text.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_they_end() {
        assert_eq!(hex(b"0x5e, x"), Some((0x5e, &b", x"[..])));
        assert_eq!(hex(b"00000030 q"), Some((0x30, &b" q"[..])));
        assert_eq!(hex(b"ffffffffffffffff"), Some((u64::MAX, &b""[..])));
        assert_eq!(decimal(b"4."), Some((4, &b"."[..])));
        for bad in ["", "0x", "10000000000000000", "5eg", "5e_", "x5e"] {
            assert_eq!(hex(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decimal(b"18446744073709551616"), None);
    }
}
