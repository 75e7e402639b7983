//! The second serial port, which the lab writes to a file.

use core::arch::asm;
use core::fmt;

/// Its base port; the register for a byte to send.
const BASE: u16 = 0x2f8;
/// Line status: the register for a byte to send is empty.
const LINE_STATUS: u16 = BASE + 5;
const EMPTY: u8 = 1 << 5;

/// The port.
pub struct Serial;

impl Serial {
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
    // SAFETY: a serial port of the PC; sending changes nothing here.
    unsafe {
        loop {
            let status: u8;
            asm!("in al, dx", in("dx") LINE_STATUS, out("al") status, options(nomem, nostack));
            if status & EMPTY != 0 {
                break;
            }
        }
        asm!("out dx, al", in("dx") BASE, in("al") byte, options(nomem, nostack));
    }
}
