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
    // Ten and more reach the highest bit.
    let length = first((digits.wrapping_add(ONES * (0x80 - 10)) | digits) & HIGHEST);
    // Zeros before them, and then each two neighbours are one number, and so on.
    let ones = digits.unbounded_shl(64 - 8 * length as u32);
    let tens = (ones.wrapping_mul(1 + (10 << 8)) >> 8) & 0x00ff_00ff_00ff_00ff;
    let hundreds = (tens.wrapping_mul(1 + (100 << 16)) >> 16) & 0x0000_ffff_0000_ffff;
    (hundreds.wrapping_mul(1 + (10_000 << 32)) >> 32, &text[length..])
}

/// Zero where a byte of `eight` is `byte`.
#[inline]
fn differences(eight: [u8; 8], byte: u8) -> u64 {
    u64::from_le_bytes(eight) ^ ONES * u64::from(byte)
}

/// The highest bit of the first byte that is zero, and maybe of some behind it.
#[inline]
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(ONES) & !bytes & HIGHEST
}

/// Which byte is the first that is not zero, or eight.
#[inline]
fn first(bytes: u64) -> usize {
    (bytes.trailing_zeros() / 8) as usize
}
