//! `-o`: what is observed is recorded as well.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use crate::model::Event;
use crate::recording::{Recorder, Rotation};

/// Smaller parts are mostly what each repeats of those before.
const LEAST_SIZE: u64 = 1 << 20;

/// When to go on in another file.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct RotationArgs {
    /// Go on in FILE.1, FILE.2 and so on, whenever a file has SIZE bytes, such as 64M
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "output_file")]
    rotate: Option<u64>,
    /// Keep only the newest N of these files
    #[arg(long, value_name = "N", requires = "rotate")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

impl RotationArgs {
    /// What is asked for, if anything is.
    pub(super) fn rotation(self) -> Option<Rotation> {
        self.rotate.map(|size| Rotation { size, keep: self.keep })
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse().ok().and_then(|count: u64| count.checked_mul(1 << shift));
    size.filter(|size| *size >= LEAST_SIZE)
        .ok_or_else(|| "a number of bytes, or one with K, M or G; 1M at the least".to_owned())
}

/// A recording that is made. That it fails is told at once, and does not stop what is shown.
pub(super) struct Recording {
    name: String,
    recorder: io::Result<Recorder>,
}

impl Recording {
    /// Begins one.
    pub(super) fn create(path: &Path, rotation: Option<Rotation>) -> Result<Self> {
        let name = path.display().to_string();
        let recorder = Recorder::create(path, rotation).with_context(|| name.clone())?;
        Ok(Self { name, recorder: Ok(recorder) })
    }

    /// Records an observation.
    pub(super) fn keep(&mut self, event: &Event) {
        self.attempt(|recorder| recorder.push(event));
    }

    /// Writes what has waited for long.
    pub(super) fn keep_up(&mut self) {
        self.attempt(Recorder::keep_up);
    }

    /// Whether nothing is recorded any more.
    pub(super) fn has_failed(&self) -> bool {
        self.recorder.is_err()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// If it has failed at any time.
    pub(super) fn finish(mut self) -> Result<()> {
        self.attempt(Recorder::flush);
        self.recorder.map(drop).map_err(|err| {
            anyhow!("{}: {err}: it is not whole; `analyze` reads what is there", self.name)
        })
    }

    fn attempt(&mut self, write: impl FnOnce(&mut Recorder) -> io::Result<()>) {
        if let Ok(recorder) = &mut self.recorder
            && let Err(err) = write(recorder)
        {
            eprintln!("ept-trace: {}: {err}: no more is recorded", self.name);
            self.recorder = Err(err);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_a_least() {
        for (text, size) in
            [("64M", 64 << 20), ("1G", 1 << 30), ("2048K", 2 << 20), ("1048576", 1 << 20)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "M", "64", "1023K", "-1M", "1T", "64MB", "1.5G", "99999999999G", "1µ"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let recording = Recording::create(Path::new("/dev/full"), None);
        let why = format!("{:#}", recording.err().expect("there is no room for a header"));
        assert!(why.starts_with("/dev/full: No space left"), "{why}");
    }
}
