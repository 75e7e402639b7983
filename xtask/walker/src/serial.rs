//! The second serial port, which the lab writes to a file.

use core::arch::asm;
use core::fmt;

/// Its base port; the register for a byte to send.
const BASE: u16 = 0x2f8;
/// Line control, and its value for bytes of 8 bits.
const LINE_CONTROL: u16 = BASE + 3;
const EIGHT_BITS: u8 = 3;
/// Line status: the register for a byte to send is empty.
const LINE_STATUS: u16 = BASE + 5;
const EMPTY: u8 = 1 << 5;

/// The port.
pub struct Serial(());

#[expect(clippy::new_without_default, reason = "it is made once")]
impl Serial {
    /// Makes it ready.
    pub fn new() -> Self {
        write(LINE_CONTROL, EIGHT_BITS);
        Self(())
    }

    /// Sends words.
    pub fn words(&mut self, words: &[u64]) {
        words.iter().flat_map(|word| word.to_le_bytes()).for_each(send);
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(send);
        Ok(())
    }
}

fn send(byte: u8) {
    while read(LINE_STATUS) & EMPTY == 0 {}
    write(BASE, byte);
}

fn read(port: u16) -> u8 {
    let value;
    // SAFETY: a register of the serial port.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

fn write(port: u16, value: u8) {
    // SAFETY: as above.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}
