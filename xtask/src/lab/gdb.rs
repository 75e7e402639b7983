//! A client of QEMU's GDB stub: just enough to read and write the memory of a stopped machine.
//!
//! A packet is `$`, its payload, `#` and the payload's sum in two hexadecimal digits; the other
//! side acknowledges it with `+`, or asks for it again with `-`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long the stub may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes in one packet of memory, well below what the stub takes.
const CHUNK: usize = 512;

/// A stopped machine. It runs on when this is dropped.
#[derive(Debug)]
pub struct Stopped<S: Read + Write = UnixStream> {
    stream: S,
}

impl Stopped {
    /// Stops the machine whose stub listens on the socket `name` in `dir`.
    pub fn stop(dir: &Path, name: &str) -> Result<Self> {
        // A socket's path must be short, and that of a run directory may be long.
        let open = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
        let path = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
        let stream = UnixStream::connect(path).context("cannot reach the GDB stub")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::take(stream)
    }
}

impl<S: Read + Write> Stopped<S> {
    /// Stops the machine at the other end of `stream`.
    fn take(stream: S) -> Result<Self> {
        let mut stopped = Self { stream };
        // QEMU stops the machine for whoever connects, and may tell of it at any time.
        let answer = stopped.ask("?")?;
        if !tells_of_a_stop(&answer) {
            bail!("the GDB stub does not say that the machine stands: {answer}");
        }
        Ok(stopped)
    }

    /// Reads memory at a virtual address.
    pub fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let (at, count) = (address + bytes.len() as u64, CHUNK.min(length - bytes.len()));
            let answer = self.ask(&format!("m{at:x},{count:x}"))?;
            match from_hex(&answer) {
                Some(part) if part.len() == count => bytes.extend(part),
                _ => bail!("{count} bytes at {at:#x} cannot be read: {answer}"),
            }
        }
        Ok(bytes)
    }

    /// Writes memory at a virtual address.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        for (index, part) in bytes.chunks(CHUNK).enumerate() {
            let (at, count) = (address + (index * CHUNK) as u64, part.len());
            let answer = self.ask(&format!("M{at:x},{count:x}:{}", to_hex(part)))?;
            if answer != "OK" {
                bail!("{count} bytes at {at:#x} cannot be written: {answer}");
            }
        }
        Ok(())
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        self.stream.write_all(&packet(request))?;
        let mut packets = Packets::default();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("the GDB stub does not answer")?;
            match packets.feed(byte[0]) {
                None => {}
                Some(Heard::Again) => self.stream.write_all(&packet(request))?,
                Some(Heard::Garbled) => self.stream.write_all(b"-")?,
                Some(Heard::Packet(answer)) => {
                    self.stream.write_all(b"+")?;
                    if request == "?" || !tells_of_a_stop(&answer) {
                        return Ok(answer);
                    }
                }
            }
        }
    }
}

impl<S: Read + Write> Drop for Stopped<S> {
    fn drop(&mut self) {
        // Detaching lets the machine run on. If the stub is gone, so is the machine.
        let _ = self.ask("D");
    }
}

fn tells_of_a_stop(answer: &str) -> bool {
    answer.starts_with(['T', 'S'])
}

/// `payload` as it goes over the wire.
fn packet(payload: &str) -> Vec<u8> {
    format!("${payload}#{:02x}", sum(payload.as_bytes())).into_bytes()
}

fn sum(payload: &[u8]) -> u8 {
    payload.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// What came over the wire.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The payload of a packet.
    Packet(String),
    /// A packet with a wrong sum.
    Garbled,
    /// The other side wants our packet again.
    Again,
}

/// Puts packets together, byte by byte.
#[derive(Debug, Default)]
struct Packets {
    /// From the `$` on.
    pending: Option<Vec<u8>>,
}

impl Packets {
    fn feed(&mut self, byte: u8) -> Option<Heard> {
        let Some(pending) = &mut self.pending else {
            match byte {
                b'$' => self.pending = Some(Vec::new()),
                b'-' => return Some(Heard::Again),
                // An acknowledgement, or noise between packets.
                _ => {}
            }
            return None;
        };
        pending.push(byte);
        let (payload, rest) = pending.split_at(pending.iter().position(|byte| *byte == b'#')?);
        let digits = std::str::from_utf8(rest.get(1..3)?).ok();
        let expected = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let heard = if expected == Some(sum(payload)) {
            Heard::Packet(String::from_utf8_lossy(payload).into_owned())
        } else {
            Heard::Garbled
        };
        self.pending = None;
        Some(heard)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor};

    use super::*;

    fn hear(bytes: &[u8]) -> Vec<Heard> {
        let mut packets = Packets::default();
        bytes.iter().filter_map(|byte| packets.feed(*byte)).collect()
    }

    #[test]
    fn a_packet_carries_its_sum() {
        assert_eq!(packet("OK"), b"$OK#9a");
        assert_eq!(packet(""), b"$#00");
        assert_eq!(packet("m0,4"), b"$m0,4#fd");
    }

    #[test]
    fn packets_are_told_from_what_is_between_them() {
        assert_eq!(hear(b"++$OK#9a+"), [Heard::Packet("OK".to_owned())]);
        assert_eq!(hear(b"$OK#9b"), [Heard::Garbled]);
        assert_eq!(hear(b"$OK#zz"), [Heard::Garbled]);
        assert_eq!(hear(b"-$#00"), [Heard::Again, Heard::Packet(String::new())]);
        assert_eq!(hear(b"$OK#9"), []);
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(from_hex(&to_hex(&[0, 0x1e, 0xff])), Some(vec![0, 0x1e, 0xff]));
        assert_eq!(from_hex("E14"), None);
        assert_eq!(from_hex("xy"), None);
    }

    /// A stub with its answers ready.
    struct Stub {
        answers: Cursor<Vec<u8>>,
        asked: Vec<u8>,
    }

    impl Stub {
        fn new(answers: &[u8]) -> Self {
            Self { answers: Cursor::new(answers.to_vec()), asked: Vec::new() }
        }
    }

    impl Read for Stub {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answers.read(buffer)
        }
    }

    impl Write for Stub {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn memory_is_read_and_written() {
        let stub = Stub::new(b"+$T05#b9$T05#b9+$0500#c5-+$OK#9a+$OK#9a");
        let asked = Stopped::take(stub).and_then(|mut stopped| {
            assert_eq!(stopped.read(0xffff_0000, 2)?, [5, 0]);
            stopped.write(0xffff_0000, &[4])?;
            Ok(String::from_utf8_lossy(&stopped.stream.asked).into_owned())
        });
        let write = "$Mffff0000,1:04#a0";
        let expected = format!("$?#3f+$mffff0000,2#23++{write}{write}+");
        assert_eq!(asked.ok(), Some(expected));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let refused = Stopped::take(Stub::new(b"$T05#b9$E14#aa"))
            .and_then(|mut stopped| stopped.read(0, 1))
            .err()
            .map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("1 bytes at 0x0 cannot be read: E14"));
        assert!(Stopped::take(Stub::new(b"$E01#a6")).is_err());
    }
}
