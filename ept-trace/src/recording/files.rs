//! Recordings in files, which only their owner can read: they tell about other people's guests.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::layout::Header;
use super::write::{Parts, Writer};
use crate::private_file::{self, Name};

/// Writes a recording to a file, or to several in a row.
pub type Recorder = Writer<Files>;

/// When to go on in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// After so many bytes.
    pub size: u64,
    /// How many of the newest to keep, if not all.
    pub keep: Option<u32>,
}

/// The files of a recording: `FILE`, `FILE.1`, `FILE.2` and so on.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    rotation: Option<Rotation>,
    session: String,
}

impl Recorder {
    /// Begins a recording of this machine in a file; `-` is the standard output.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or is none where there are to be several.
    pub fn create(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let header = Header::of_this_machine()?;
        let session = header.session.clone();
        let files = Files { path: path.to_owned(), rotation, session };
        Self::new(files, header, rotation.map(|rotation| rotation.size))
    }
}

impl Header {
    /// For a recording of this machine that begins now.
    fn of_this_machine() -> io::Result<Self> {
        let kernel = |file: &str| {
            fs::read_to_string(Path::new("/proc/sys/kernel").join(file))
                .map(|text| text.trim_end().to_owned())
        };
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanoseconds = |seconds: i64, rest: i64| {
            let nanoseconds = seconds.checked_mul(1_000_000_000)?.checked_add(rest)?;
            u64::try_from(nanoseconds).ok()
        };
        let realtime = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let realtime = realtime.unwrap_or_default().as_nanos();
        Ok(Self {
            tool: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            release: kernel("osrelease")?,
            boot_id: kernel("random/boot_id")?,
            session: kernel("random/uuid")?,
            realtime_ns: u64::try_from(realtime).unwrap_or(0),
            monotonic_ns: nanoseconds(monotonic.tv_sec, monotonic.tv_nsec).unwrap_or(0),
            ..Self::default()
        })
    }
}

impl Parts for Files {
    type Part = File;

    fn begin(&mut self, part: u32) -> io::Result<File> {
        if self.path.as_os_str() == "-" {
            return self.standard_output();
        }
        let name = if part > 1 { Name::Derived } else { Name::Given };
        let file = private_file::create(&self.path_of(part), name)?;
        if self.rotation.is_some() && !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file, so there can be no --rotate"));
        }
        let keep = self.rotation.and_then(|rotation| rotation.keep);
        if let Some(oldest) = keep.and_then(|keep| part.checked_sub(keep)).filter(|part| *part > 0)
        {
            self.remove(&self.path_of(oldest));
        }
        Ok(file)
    }
}

impl Files {
    /// Where a part is.
    fn path_of(&self, part: u32) -> PathBuf {
        let mut path = OsString::from(&self.path);
        if part > 1 {
            path.push(format!(".{}", part - 1));
        }
        path.into()
    }

    fn standard_output(&self) -> io::Result<File> {
        let output = io::stdout();
        if self.rotation.is_some() {
            return Err(io::Error::other("--rotate needs a file, and not the standard output"));
        }
        if output.is_terminal() {
            return Err(io::Error::other("a recording is nothing for a terminal: name a file"));
        }
        Ok(output.as_fd().try_clone_to_owned()?.into())
    }

    /// Removes a part of this recording. What is no part of it is let alone.
    fn remove(&self, path: &Path) {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let header = options.open(path).and_then(|mut file| Header::read(&mut file));
        match header {
            Ok(header) if header.session == self.session => {
                if let Err(err) = fs::remove_file(path) {
                    log::warn!("{}: {err}", path.display());
                }
            }
            Ok(_) => log::warn!("{}: not removed: of another recording", path.display()),
            Err(err) => log::warn!("{}: not removed: {err}", path.display()),
        }
    }
}
