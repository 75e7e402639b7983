//! LZO1X, decompressed; the format is that of the kernel's Documentation/staging/lzo.rst.
//!
//! By hand, because the crates that do it are GPL, or panic on damaged input.

/// Input that is read from its start.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<usize> {
        self.take(1).map(|byte| usize::from(byte[0]))
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    /// A length that `bits` of an instruction hold, or, where they are 0, the bytes after it.
    fn length(&mut self, bits: usize, most: usize) -> Option<usize> {
        if bits != 0 {
            return Some(bits);
        }
        let mut length = most;
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255)?,
                last => return length.checked_add(last),
            }
        }
    }
}

/// Output that is filled from its start.
struct Output<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Output<'_> {
    fn literals(&mut self, literals: &[u8]) -> Option<()> {
        let end = self.length.checked_add(literals.len())?;
        self.bytes.get_mut(self.length..end)?.copy_from_slice(literals);
        self.length = end;
        Some(())
    }

    /// Copies from `distance` bytes back, byte by byte: the copy may overlap what it makes.
    fn repeat(&mut self, distance: usize, length: usize) -> Option<()> {
        let from = self.length.checked_sub(distance)?;
        if self.bytes.len() - self.length < length {
            return None;
        }
        for at in from..from + length {
            self.bytes[self.length] = self.bytes[at];
            self.length += 1;
        }
        Some(())
    }
}

/// Decompresses into `output`; how many bytes that was, nothing if the input is damaged or is
/// more than fits.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Option<usize> {
    let mut input = Input(input);
    let mut output = Output { bytes: output, length: 0 };
    // How many literals the last instruction copied, 4 standing for more: the instructions below
    // 16 depend on it.
    let mut literals = 0;
    if let Some(&first @ 18..) = input.0.first() {
        input.take(1)?;
        let length = usize::from(first) - 17;
        output.literals(input.take(length)?)?;
        literals = length.min(4);
    }
    loop {
        let (distance, length, after) = match (input.byte()?, literals) {
            (code @ 64.., _) => {
                let distance = (input.byte()? << 3) + (code >> 2 & 7) + 1;
                (distance, (code >> 5) + 1, code)
            }
            (code @ 32.., _) => {
                let length = input.length(code & 31, 31)? + 2;
                let word = input.u16()?;
                ((word >> 2) + 1, length, word)
            }
            (code @ 16.., _) => {
                let length = input.length(code & 7, 7)? + 2;
                let word = input.u16()?;
                let distance = ((code & 8) << 11) + (word >> 2);
                if distance == 0 {
                    return Some(output.length);
                }
                (distance + 16384, length, word)
            }
            (code, 0) => {
                let length = input.length(code, 15)? + 3;
                output.literals(input.take(length)?)?;
                literals = 4;
                continue;
            }
            (code, 4) => ((input.byte()? << 2) + (code >> 2) + 2049, 3, code),
            (code, _) => ((input.byte()? << 2) + (code >> 2) + 1, 2, code),
        };
        output.repeat(distance, length)?;
        literals = after & 3;
        output.literals(input.take(literals)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instruction_does_what_the_format_says() {
        // 4 literals, then: 3 bytes from 4 back and 1 literal; 2 bytes from 1 back; a literal run
        // of 4; 40 bytes from 1 back; the end.
        let input = [
            21,
            b'a',
            b'b',
            b'c',
            b'd', // 21 - 17 literals
            0b0100_1101,
            0,
            b'e', // M2: length 3, distance 4, 1 literal
            0b0000_0000,
            0, // after 1 literal: length 2, distance 1
            1,
            b'w',
            b'x',
            b'y',
            b'z', // after none: 4 literals
            0b0010_0000,
            7,
            0,
            0, // M3: length 2 + 31 + 7, distance 1
            0b0001_0001,
            0,
            0, // M4: the end
        ];
        let mut output = [0; 64];
        let length = decompress(&input, &mut output).unwrap();
        let expected = format!("abcdabceeewxyz{}", "z".repeat(40));
        assert_eq!(std::str::from_utf8(&output[..length]), Ok(&*expected));
    }

    #[test]
    fn what_does_not_fit_or_reaches_back_too_far_is_damage() {
        let mut output = [0; 8];
        // 9 literals; a match before the start; a length without end; no end at all.
        assert_eq!(decompress(&[26, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 0, 0], &mut output), None);
        assert_eq!(decompress(&[0b0100_0000, 0, 17, 0, 0], &mut output), None);
        assert_eq!(decompress(&[0b0010_0000, 0, 0, 0, 0], &mut output), None);
        assert_eq!(decompress(&[21, 1, 2, 3, 4], &mut output), None);
        assert_eq!(decompress(&[], &mut output), None);
    }
}
