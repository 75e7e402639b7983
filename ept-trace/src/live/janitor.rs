//! Cleans up after a killed watcher.
//!
//! Kprobe events of tracefs outlive the process that made them, and SIGKILL leaves it no time to
//! remove them. So a child, started before the first event is made, waits for the pipe from its
//! parent to close, and removes what is left of the parent's group.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::attachment::{own_group, remove_group};
use super::privileges::drop_all_but_tracefs;
use crate::kernel::Tracefs;

/// The verb, not meant for people, by which the child is started.
const VERB: &str = "janitor";

/// The child, to be told when all is done.
pub(super) struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts it.
    pub(super) fn start() -> Result<Self> {
        let child = Command::new("/proc/self/exe")
            .args([VERB, &own_group()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A Ctrl-C at the terminal is meant for the watcher alone.
            .process_group(0)
            .spawn()
            .context("/proc/self/exe cannot be started again: is /proc mounted?")?;
        Ok(Self { child })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(err) = self.child.wait() {
            log::warn!("the child that cleans up is lost: {err}");
        }
    }
}

/// What the child does.
///
/// # Errors
///
/// If tracefs cannot be reached, or an event cannot be removed.
pub fn serve(group: &str) -> Result<()> {
    // A service manager ends a watcher with all its children at once; this one has to be last.
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let tracefs = Tracefs::open()?;
    drop_all_but_tracefs()?;
    // The end of the pipe is the end of the parent, however it came.
    let _ = std::io::stdin().read(&mut [0; 1]);
    remove_group(&tracefs, group, Duration::from_secs(10))
}
