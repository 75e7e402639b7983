//! A recording of a run that fails, without being asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cli::judge::Judge;
use crate::recording::Rotation;

/// Of a long run the end is kept: at most two parts of this size, in bytes.
const ROTATION: Rotation = Rotation { size: 64 << 20, keep: Some(2) };

/// A recording that goes when this is dropped, unless it is kept.
pub(super) struct Keep(TempDir);

impl Keep {
    /// Begins one, in a directory of its own in `dir`. A run that cannot have one goes on without.
    pub(super) fn new(dir: &Path, judge: &mut Judge) -> Option<Self> {
        let begun = Self::begin(dir, judge);
        begun.inspect_err(|err| eprintln!("ept-trace: no recording is kept: {err:#}")).ok()
    }

    fn begin(dir: &Path, judge: &mut Judge) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("ept-trace-check-").tempdir_in(dir);
        let made = made.with_context(|| format!("{} (see --keep)", dir.display()))?;
        judge.record_to(&made.path().join("recording.ept"), Some(ROTATION))?;
        Ok(Self(made))
    }

    /// Keeps it; where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.0.keep().join("recording.ept")
    }
}
