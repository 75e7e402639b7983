//! What is shown of a long analysis while it runs: on a terminal alone, and only where nothing else is
//! written to it meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shorter ones are not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// The clock is asked once in so many observations.
const EVERY: u64 = 1 << 14;

/// How far the analysis is.
pub(super) struct Progress {
    is_shown: bool,
    begun: Instant,
    told: Option<Instant>,
    observations: u64,
}

impl Progress {
    /// Begins; `is_quiet` if the terminal is used for something else.
    pub(super) fn new(is_quiet: bool) -> Self {
        let is_shown = !is_quiet && io::stderr().is_terminal();
        Self { is_shown, begun: Instant::now(), told: None, observations: 0 }
    }

    /// An observation more.
    pub(super) fn tick(&mut self) {
        self.observations += 1;
        if !self.is_shown || !self.observations.is_multiple_of(EVERY) {
            return;
        }
        let is_time =
            self.told.map_or(self.begun.elapsed() > PATIENCE, |told| told.elapsed() > PAUSE);
        if is_time {
            self.told = Some(Instant::now());
            let seconds = self.begun.elapsed().as_secs();
            // That it cannot be shown is nothing to stop for.
            let _ = write!(
                io::stderr(),
                "\r{} observations judged, {seconds} s\x1b[K",
                self.observations
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
