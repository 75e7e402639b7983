//! What stands before a message: the stamps of dmesg, of syslog and the journal, of the console, and
//! the marks of quoted mail. They are taken off piece by piece, for people put them one upon another.
//!
//! dmesg, with its options as util-linux has them:
//!
//! ```text
//! [   33.899543] message                  [28042.349513][T78789] message (PRINTK_CALLER)
//! [Sun Nov 22 14:39:23 2026] message     (-T)      [Nov22 14:39] message, [  +0.000012] message  (-e)
//! [   33.899 <    0.000012>] message     (-d)      kern  :warn  : [   33.899543] message  (-x)
//! <4>[   33.899543] message              (-r)      2026-11-22T14:39:23,899543+00:00 message  (iso)
//! 4,1201,33899543,-,caller=T78789;message          (/dev/kmsg)
//! ```
//!
//! syslog and `journalctl`, with a host and `kernel:` after the stamp, and at times a stamp of dmesg
//! after that:
//!
//! ```text
//! Apr 24 14:07:29 host kernel: message             2026-04-24T14:07:29+0200 host kernel: message
//! Fri 2026-04-24 14:07:29 CEST host kernel: ...    [ 2311.499070] host kernel: message
//! 1777032449.499070 host kernel: message
//! ```

use super::clock::Stamp;
use super::scan::{begins_with_one_of, decimal, split};
use super::stamp;

/// Who printed: a thread or a CPU, where the kernel tells (`CONFIG_PRINTK_CALLER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// `T` and its number.
    Thread(u64),
    /// `C` and its number: in an interrupt, or before there were threads.
    Cpu(u64),
}

impl Caller {
    /// `T78789`, `C1`.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let (kind, number) = text.split_first()?;
        match (kind, decimal(number)?) {
            (b'T', (number, [])) => Some(Self::Thread(number)),
            (b'C', (number, [])) => Some(Self::Cpu(number)),
            _ => None,
        }
    }
}

/// A line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// What it says of time.
    pub stamp: Stamp,
    /// Who printed it.
    pub caller: Option<Caller>,
    /// It is of a kernel, whatever it says.
    pub is_of_kernel: bool,
    /// The message.
    pub message: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes a line apart.
    pub(super) fn open(line: &'a [u8]) -> Self {
        let mut envelope = Self { message: line.trim_ascii_end(), ..Self::default() };
        while let Some(rest) = envelope.piece() {
            envelope.message = rest;
        }
        envelope
    }

    /// Takes the next piece off; what is left.
    fn piece(&mut self) -> Option<&'a [u8]> {
        match self.message.first()? {
            b' ' | b'\t' | b'>' => Some(&self.message[1..]),
            b'[' => self.bracket(),
            b'<' => self.priority(),
            b'\x1b' => self.colour(),
            b'0'..=b'9' => self.kmsg().or_else(|| self.date()).or_else(|| self.host()),
            b'A'..=b'Z' => self.date().or_else(|| self.host()),
            b'a'..=b'z' => self.facility().or_else(|| self.host()),
            _ => None,
        }
    }

    /// `[...]`.
    fn bracket(&mut self) -> Option<&'a [u8]> {
        let (inner, rest) = split(&self.message[1..], b']')?;
        let inner = inner.trim_ascii();
        if let Some(caller) = Caller::of(inner) {
            self.caller = Some(caller);
        } else if let Some(ns) = stamp::boot(inner) {
            self.stamp.boot_ns = Some(ns);
            self.is_of_kernel = true;
        } else if let Some(ns) = stamp::passed(inner) {
            self.stamp.passed_ns = Some(ns);
            self.is_of_kernel = true;
        } else if let Some(date) = stamp::bracketed_date(inner) {
            self.stamp.date = Some(date);
            self.is_of_kernel = true;
        } else if inner != b"..." && inner != "…".as_bytes() {
            return None;
        }
        Some(rest)
    }

    /// `<4>`.
    fn priority(&mut self) -> Option<&'a [u8]> {
        let (number, rest) = split(&self.message[1..], b'>')?;
        decimal(number).filter(|(_, rest)| rest.is_empty())?;
        Some(rest)
    }

    /// A colour of a terminal.
    fn colour(&mut self) -> Option<&'a [u8]> {
        let (_, rest) = split(self.message.strip_prefix(b"\x1b[")?, b'm')?;
        Some(rest)
    }

    /// `kern  :warn  : `.
    fn facility(&mut self) -> Option<&'a [u8]> {
        let (_, rest) = split(self.message.strip_prefix(b"kern  :")?, b':')?;
        self.is_of_kernel = true;
        Some(rest)
    }

    /// `4,1201,33899543,-,caller=T78789;`.
    fn kmsg(&mut self) -> Option<&'a [u8]> {
        let (_priority, rest) = decimal(self.message)?;
        let (_sequence, rest) = decimal(rest.strip_prefix(b",")?)?;
        let (micros, rest) = decimal(rest.strip_prefix(b",")?)?;
        let (fields, rest) = split(rest.strip_prefix(b",")?, b';')?;
        self.stamp.boot_ns = Some(micros.saturating_mul(1000));
        let mut fields = fields.split(|byte| *byte == b',');
        self.caller = fields.find_map(|field| Caller::of(field.strip_prefix(b"caller=")?));
        self.is_of_kernel = true;
        Some(rest)
    }

    /// A date that is not in brackets, of which a line has but one.
    fn date(&mut self) -> Option<&'a [u8]> {
        if self.stamp != Stamp::default() {
            return None;
        }
        let (date, rest) = stamp::date(self.message)?;
        self.stamp.date = Some(date);
        Some(rest)
    }

    /// `host kernel: `, and `host qemu-kvm[1195]: ` as well, after a stamp.
    fn host(&mut self) -> Option<&'a [u8]> {
        const PROGRAMS: &[&[u8]] = &[b"qemu", b"kvm", b"libvirt", b"virtqemud"];
        if self.stamp == Stamp::default() {
            return None;
        }
        let (host, rest) = split(self.message, b' ')?;
        if host.ends_with(b":") {
            return None;
        }
        let (program, rest) = split(rest, b':')?;
        let is_kernel = program == b"kernel";
        self.is_of_kernel |= is_kernel;
        let is_ours =
            is_kernel || begins_with_one_of(program, PROGRAMS) && !program.contains(&b' ');
        is_ours.then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Date;
    use super::*;

    fn opened(line: &str) -> Envelope<'_> {
        Envelope::open(line.as_bytes())
    }

    #[test]
    fn each_envelope_is_taken_off() {
        for line in [
            "EPT pointer = 0x5e",
            "[   33.899543] EPT pointer = 0x5e\r",
            "[28042.349513][T78789] EPT pointer = 0x5e",
            "[28042.349513][    C1] EPT pointer = 0x5e",
            "> [28042.349513][T78789] EPT pointer = 0x5e",
            ">> > EPT pointer = 0x5e",
            "[…] EPT pointer = 0x5e",
            "[Sun Nov 22 14:39:23 2026] EPT pointer = 0x5e",
            "[Nov22 14:39] EPT pointer = 0x5e",
            "[  +0.000012] EPT pointer = 0x5e",
            "[<    0.000012>] EPT pointer = 0x5e",
            "[   33.899543 <    0.000012>] EPT pointer = 0x5e",
            "kern  :err   : [   33.899543] EPT pointer = 0x5e",
            "kern  :err   : [Sun Nov 22 14:39:23 2026] EPT pointer = 0x5e",
            "<3>[   33.899543] EPT pointer = 0x5e",
            "\x1b[32m[   33.899543] \x1b[0m\x1b[31mEPT pointer = 0x5e",
            "2026-11-22T14:39:23,899543+00:00 EPT pointer = 0x5e",
            "3,1201,33899543,-;EPT pointer = 0x5e",
            "3,1201,33899543,c,caller=T78789;EPT pointer = 0x5e",
            "Apr 24 14:07:29 debian10.localdomain kernel: EPT pointer = 0x5e",
            "Apr  4 14:07:29 host kernel: [   33.899543] EPT pointer = 0x5e",
            "2026-04-24T14:07:29+0200 host kernel: EPT pointer = 0x5e",
            "2026-04-24T14:07:29.123456+02:00 host kernel: [   33.899543] EPT pointer = 0x5e",
            "Fri 2026-04-24 14:07:29 CEST host kernel: EPT pointer = 0x5e",
            "[ 2311.499070] host kernel: EPT pointer = 0x5e",
            "1777032449.499070 host kernel: EPT pointer = 0x5e",
            "Apr 24 14:07:29 host qemu-kvm[1195]: EPT pointer = 0x5e",
        ] {
            let message = opened(line).message;
            assert_eq!(String::from_utf8_lossy(message), "EPT pointer = 0x5e", "{line}");
        }
    }

    #[test]
    fn stamps_and_callers_are_kept() {
        let line = opened("[28042.349513][T78789] x");
        assert_eq!(line.stamp.boot_ns, Some(28_042_349_513_000));
        assert_eq!(line.caller, Some(Caller::Thread(78789)));
        assert!(line.is_of_kernel);
        assert_eq!(opened("[   12.5][    C1] x").caller, Some(Caller::Cpu(1)));
        let line = opened("3,1201,33899543,-,caller=T7;x");
        assert_eq!(
            (line.stamp.boot_ns, line.caller),
            (Some(33_899_543_000), Some(Caller::Thread(7)))
        );
        let line = opened("Apr 24 14:07:29 host kernel: [    0.000001] x");
        let date = Date { year: None, month: 4, day: 24, seconds: 50_849, nanos: 0 };
        assert_eq!((line.stamp.date, line.stamp.boot_ns), (Some(date), Some(1000)));
        assert_eq!(opened("[  +0.000012] x").stamp.passed_ns, Some(12_000));
    }

    #[test]
    fn what_is_no_envelope_stays() {
        for line in [
            "[kvm] message",
            "[1234] message",
            "<abc> message",
            "12 monkeys",
            "Apr 99 14:07:29 host kernel: message",
            "host kernel: message",
            "kern: message",
            "[   33.899543 message",
        ] {
            assert_eq!(opened(line).message, line.as_bytes(), "{line}");
        }
        let of_another = opened("Apr 24 14:07:29 host sshd[12]: message").message;
        assert_eq!(of_another, b"host sshd[12]: message");
        assert_eq!(opened("").message, b"");
        assert_eq!(opened(" > > ").message, b"");
    }
}
