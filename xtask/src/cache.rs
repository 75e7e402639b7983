//! The user's cache of this project: what `setup` makes once and everything else uses.
//!
//! Two rules keep it sound. A thing is made in a draft directory and renamed when complete, so
//! whatever has its final name is whole. And a thing is made under a lock of its own, so two
//! callers never make it twice.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::toolchain;

/// The cache's directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user, made if there is none.
    pub fn open() -> Result<Self> {
        let root = toolchain::cache_dir()
            .context("no place for a cache: set HOME, or XDG_CACHE_HOME to an absolute path")?;
        for dir in ["locks", "drafts"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let cache = Self { root };
        cache.sweep_runs();
        Ok(cache)
    }

    /// Removes what lab runs of other days have left for a closer look. What cannot be removed
    /// stays, and harms nobody.
    fn sweep_runs(&self) {
        const KEPT: Duration = Duration::from_hours(24);
        for run in fs::read_dir(self.path("run")).into_iter().flatten().flatten() {
            let age = run.metadata().and_then(|run| run.modified()).map(|made| made.elapsed());
            if matches!(age, Ok(Ok(age)) if age > KEPT) {
                let _ = fs::remove_dir_all(run.path());
            }
        }
    }

    /// A path inside the cache.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// An empty directory for this process alone, removed when dropped.
    pub fn scratch(&self, name: &str) -> Result<Draft> {
        let runs = self.path("run");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        Draft::new(runs.join(format!("{name}-{}", process::id())))
    }

    /// Waits until no one else makes `name`. The lock goes with the value, or with the process.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.path("locks").join(name);
        let cannot = || format!("cannot lock {}", path.display());
        let file = File::create(&path).with_context(cannot)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            eprintln!("setup: {name}: another xtask is at it, waiting");
            file.lock().with_context(cannot)?;
        }
        Ok(Lock { name: name.to_owned(), _file: file, cache: self.clone() })
    }
}

/// The right to make one named thing.
#[derive(Debug)]
pub struct Lock {
    name: String,
    _file: File,
    cache: Cache,
}

impl Lock {
    /// An empty directory to make the thing in. An interrupted maker's remains are cleared first.
    pub fn draft(&self) -> Result<Draft> {
        Draft::new(self.cache.path("drafts").join(&self.name))
    }
}

/// A directory under construction, removed when dropped.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot clear {}", path.display()))?;
        }
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the part `name` of this draft final, as `target`.
    pub fn publish(&self, name: &str, target: &Path) -> Result<()> {
        let cannot = || format!("cannot put {} in place", target.display());
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(cannot)?;
        }
        // A link needs no removal: the rename replaces it in one go.
        if target.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            fs::remove_dir_all(target).with_context(cannot)?;
        }
        fs::rename(self.path.join(name), target).with_context(cannot)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What can't be removed now is cleared by the next maker.
        let _ = fs::remove_dir_all(&self.path);
    }
}
