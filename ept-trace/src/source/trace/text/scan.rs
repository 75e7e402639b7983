//! Looks at bytes that are near, eight at a time. For so few, memchr takes as long to be called as to
//! look.

/// One in each byte.
const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The highest bit of each byte.
const HIGHEST: u64 = u64::from_le_bytes([1 << 7; 8]);

/// Where the first of these bytes is.
#[inline]
pub fn find<const N: usize>(text: &[u8], bytes: [u8; N]) -> Option<usize> {
    let mut rest = text;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let found = bytes.iter().fold(0, |found, byte| found | zeros(differences(*eight, *byte)));
        if found != 0 {
            return Some(text.len() - rest.len() + first(found));
        }
        rest = behind;
    }
    let near = rest.iter().position(|byte| bytes.contains(byte))?;
    Some(text.len() - rest.len() + near)
}

/// What is left of `text` behind as many of `byte` as it begins with.
#[inline]
pub fn behind(mut text: &[u8], byte: u8) -> &[u8] {
    while let Some((eight, rest)) = text.split_first_chunk() {
        let different = differences(*eight, byte);
        if different != 0 {
            return &text[first(different)..];
        }
        text = rest;
    }
    while let Some(rest) = text.strip_prefix(&[byte]) {
        text = rest;
    }
    text
}

/// The number of the decimal digits that `text` begins with, eight at most, and what is behind them.
/// Of a text that is shorter than eight bytes nothing is read.
#[inline]
pub fn decimal(text: &[u8]) -> (u64, &[u8]) {
    let Some(eight) = text.first_chunk() else { return (0, text) };
    let digits = differences(*eight, b'0');
    // What is no digit has its highest bit here; behind the first, other bytes may have it as well.
    let no_digits = (digits.wrapping_add(ONES * (0x80 - 10)) | digits) & HIGHEST;
    let bits = no_digits.trailing_zeros() / 8 * 8;
    // With zeros before the first digit, each two neighbours become one number, three times over.
    let ones = digits.unbounded_shl(u64::BITS - bits);
    let pairs = (ones.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    let number = fours.wrapping_mul(1 + (10_000 << 32)) >> 32;
    (number, &text[(bits / 8) as usize..])
}

/// Zero where a byte of `eight` is `byte`.
#[inline]
fn differences(eight: [u8; 8], byte: u8) -> u64 {
    u64::from_le_bytes(eight) ^ (ONES * u64::from(byte))
}

/// The highest bit of the first byte that is zero, and maybe of some behind it.
#[inline]
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(ONES) & !bytes & HIGHEST
}

/// Which byte is the first that is not zero.
#[inline]
fn first(bytes: u64) -> usize {
    (bytes.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of up to three times eight bytes: `before` again and again, with `byte` in each place.
    fn texts(before: u8, byte: u8) -> impl Iterator<Item = (usize, Vec<u8>)> {
        (0..24).flat_map(move |length| {
            (0..length).map(move |at| {
                let mut text = vec![before; length];
                text[at] = byte;
                (at, text)
            })
        })
    }

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        // Those that differ from it in one bit, and what is far from it.
        for before in [b' ', b';', b'2', b'*', 0, 0x7f, 0x80, 0xba, 0xff] {
            for (at, text) in texts(before, b':') {
                assert_eq!(find(&text, [b':']), Some(at), "{text:x?}");
                assert_eq!(find(&text, [b'[', b':']), Some(at), "{text:x?}");
                assert_eq!(find(&text, [b'[', b']']), None, "{text:x?}");
                assert_eq!(behind(&text, before).len(), text.len() - at, "{text:x?}");
            }
        }
        // The nearer of two.
        assert_eq!(find(b"kvm_exit: [000]   ", [b' ', b':']), Some(8));
        assert_eq!((find(b"", [b' ']), behind(b"", b' ')), (None, &b""[..]));
    }

    #[test]
    fn digits_end_where_something_else_is() {
        for length in 0..=8 {
            let digits = &"90817263"[..length];
            for end in [b' ', b'.', b'/', b':', b'a', b'p', 0, 0x7f, 0x80, 0xb5, 0xff] {
                let text = [digits.as_bytes(), &[end], b"99999999"].concat();
                let number = digits.parse().unwrap_or(0);
                assert_eq!(decimal(&text), (number, &text[length..]), "{digits} {end:x}");
            }
        }
        assert_eq!(decimal(b"1234567"), (0, &b"1234567"[..]));
    }
}
