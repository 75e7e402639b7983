//! What comes out of a cell: the kernel's console, and the command's channel.
//!
//! Both are files that the emulator writes and that are read as they grow, so that every
//! emulator is the same to the rest.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// The byte before every marker, ASCII's record separator.
const MARK: u8 = 0x1e;

/// A file that grows, and may not be there yet.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    /// From the file's beginning.
    pub fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// What has been added since the last call.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        self.offset += file.read_to_end(&mut bytes)? as u64;
        Ok(bytes)
    }
}

/// The line of the console that tells of the kernel's death or injury.
pub fn crash_line(console: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(console);
    let tells =
        |line: &str| ["Kernel panic", "BUG:", "Oops"].iter().any(|word| line.contains(word));
    text.lines().position(tells)
}

/// Why a kernel that never ran the command may not have, judged by its console.
pub fn hint(console: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(console);
    let hints = [
        ("Unable to mount root fs", "it took no initramfs: CONFIG_BLK_DEV_INITRD=y"),
        ("Failed to execute /init", "CONFIG_BINFMT_SCRIPT=y and CONFIG_BINFMT_ELF=y, 64 bits"),
        ("No working init found", "CONFIG_BINFMT_SCRIPT=y and CONFIG_BINFMT_ELF=y, 64 bits"),
        ("/dev/ttyS1", "CONFIG_DEVTMPFS=y, CONFIG_SERIAL_8250=y with 2 ports or more"),
    ];
    if text.trim().is_empty() {
        return Some(
            "its console is silent: it does not boot on this CPU, or lacks \
             CONFIG_SERIAL_8250_CONSOLE=y, CONFIG_PRINTK=y",
        );
    }
    hints.into_iter().find(|(sign, _)| text.contains(sign)).map(|(_, hint)| hint)
}

/// Something that came over the command's channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The command starts, on this kernel release.
    Begin(String),
    /// The command printed this.
    Output(Vec<u8>),
    /// The command wants the kernel's memory changed, and waits for a line that answers.
    Poke(String),
    /// The command is over, and so is the channel: exit code and the files of `/out` as tar.gz.
    End(i32, Vec<u8>),
}

/// Takes the command's channel apart. The markers carry a nonce, so that no output can be
/// mistaken for one; `lab/init.sh` is the other end.
#[derive(Debug)]
pub struct Channel {
    markers: [Vec<u8>; 3],
    pending: Vec<u8>,
    /// After the end marker: the exit code, and the size of what follows.
    trailer: Option<(i32, usize)>,
}

impl Channel {
    /// A channel whose markers carry `nonce`.
    pub fn new(nonce: &str) -> Self {
        let marker = |word: &str| [&[MARK], format!("{nonce} {word} ").as_bytes()].concat();
        let markers = ["begin", "poke", "end"].map(marker);
        Self { markers, pending: Vec::new(), trailer: None }
    }

    /// Takes in more bytes; what they complete comes out.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.pending.extend(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            events.push(event);
        }
        events
    }

    fn next(&mut self) -> Option<Event> {
        if let Some((code, size)) = self.trailer {
            (self.pending.len() >= size).then_some(())?;
            self.trailer = None;
            return Some(Event::End(code, self.pending.drain(..size).collect()));
        }
        let mark = self.pending.iter().position(|byte| *byte == MARK);
        match mark {
            None => self.output(self.pending.len()),
            Some(0) => self.marker(),
            Some(at) => self.output(at),
        }
    }

    /// The first `count` bytes are the command's.
    fn output(&mut self, count: usize) -> Option<Event> {
        (count > 0).then(|| Event::Output(self.pending.drain(..count).collect()))
    }

    /// There is a [`MARK`] in front: a marker, the beginning of one, or the command's own.
    fn marker(&mut self) -> Option<Event> {
        let could_be = |marker: &[u8]| {
            marker.iter().zip(&self.pending).all(|(expected, byte)| expected == byte)
        };
        let Some(which) = self.markers.iter().position(|marker| could_be(marker)) else {
            return self.output(1);
        };
        let end = self.pending.iter().position(|byte| *byte == b'\n')?;
        let start = self.markers[which].len();
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let text = String::from_utf8_lossy(&line[start..end]).into_owned();
        match which {
            0 => return Some(Event::Begin(text)),
            1 => return Some(Event::Poke(text)),
            _ => {}
        }
        let mut numbers = text.split(' ');
        let code = numbers.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        let size = numbers.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        self.trailer = Some((code, size));
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"lab: no msr\n\x1e77 begin 6.1\n\x1e77 poke ff 1 05 04\nhello\x1e7 \x1e\n\x1e77 end 3 4\n\x1f\x8b\n\0";

    fn expected() -> (Vec<u8>, String, Event) {
        let end = Event::End(3, b"\x1f\x8b\n\0".to_vec());
        (b"lab: no msr\nhello\x1e7 \x1e\n".to_vec(), "6.1".to_owned(), end)
    }

    fn gather(pieces: impl Iterator<Item = Vec<u8>>) -> Option<(Vec<u8>, String, Event)> {
        let mut channel = Channel::new("77");
        let (mut output, mut release, mut last) = (Vec::new(), String::new(), None);
        for event in pieces.flat_map(|piece| channel.feed(&piece)) {
            match event {
                Event::Begin(text) => release = text,
                Event::Output(bytes) => output.extend(bytes),
                Event::Poke(text) => assert_eq!(text, "ff 1 05 04"),
                end @ Event::End(..) => last = Some(end),
            }
        }
        last.map(|end| (output, release, end))
    }

    #[test]
    fn a_channel_is_taken_apart_wherever_it_is_cut() {
        for size in 1..=STREAM.len() {
            let pieces = STREAM.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(gather(pieces), Some(expected()), "pieces of {size}");
        }
    }

    #[test]
    fn output_is_not_held_back() {
        let mut channel = Channel::new("77");
        assert_eq!(channel.feed(b"no line end"), [Event::Output(b"no line end".to_vec())]);
    }

    #[test]
    fn crashes_are_told_from_a_quiet_console() {
        assert_eq!(crash_line(b"a\r\n[ 1.0] Kernel panic - not syncing: x\r\n"), Some(1));
        assert_eq!(crash_line(b"[ 1.0] BUG: unable to handle page fault\r\n"), Some(0));
        assert_eq!(crash_line(b"[ 1.0] x86/cpu: SGX disabled by BIOS.\r\n"), None);
    }

    #[test]
    fn what_a_kernel_lacks_shows_on_its_console() {
        let says = |console: &str, option: &str| {
            hint(console.as_bytes()).is_some_and(|hint| hint.contains(option))
        };
        assert!(says("\r\n", "CONFIG_SERIAL_8250_CONSOLE"));
        assert!(says("VFS: Unable to mount root fs on unknown-block(0,0)", "BLK_DEV_INITRD"));
        assert!(says("/init: line 24: can't create /dev/ttyS1: nonexistent", "DEVTMPFS"));
        assert_eq!(hint(b"BUG: unable to handle page fault"), None);
    }
}
