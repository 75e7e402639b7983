//! What every verb does with an event: judge it, show it, keep it.

use std::io;

#[cfg(feature = "live")]
use super::output::OutputArgs;
#[cfg(feature = "live")]
use super::recording::Recording;
use crate::analysis::{Analysis, Baseline, Judged, Summary};
use crate::model::{Event, EventKind, Evidence, KernelFacts, Verdict};
use crate::oracle::Known;
use crate::sink::Sink;
use crate::source::Skipped;

/// Judges events, shows them and keeps them.
#[derive(Default)]
pub(super) struct Judge {
    analysis: Analysis,
    outputs: Outputs,
    /// What is kept.
    #[cfg(feature = "live")]
    recording: Option<Recording>,
    /// Show what is about guests only if it is not ok; all is kept.
    only_wrong: bool,
    /// When the last event was.
    now: u64,
}

/// Where it is shown.
#[derive(Default)]
struct Outputs {
    /// What is shown; nothing once its reader has gone.
    screen: Option<Box<dyn Sink>>,
    /// What is written to files besides, by their names.
    files: Vec<(String, Box<dyn Sink>)>,
    /// Whoever read the standard output has gone.
    unread: bool,
}

impl Judge {
    /// Shows on the standard output.
    #[cfg(feature = "live")]
    pub(super) fn new(output: &OutputArgs) -> Self {
        Self::with(output.sink())
    }

    /// Shows by this sink.
    pub(super) fn with(screen: Box<dyn Sink>) -> Self {
        let outputs = Outputs { screen: Some(screen), ..Outputs::default() };
        Self { outputs, ..Self::default() }
    }

    /// Writes to a file as well.
    pub(super) fn also_write(&mut self, name: String, sink: Box<dyn Sink>) {
        self.outputs.files.push((name, sink));
    }

    /// These findings are known.
    pub(super) fn accept(&mut self, baseline: Baseline) {
        self.analysis.accept(baseline);
    }

    /// What comes next is of this file.
    pub(super) fn source(&mut self, name: &str) -> io::Result<()> {
        self.outputs.show(|screen| screen.source(name))
    }

    /// So much of a file was passed over.
    pub(super) fn skipped(&mut self, skipped: &Skipped) -> io::Result<()> {
        match skipped.count {
            0 => Ok(()),
            _ => self.outputs.show(|screen| screen.skipped(skipped)),
        }
    }

    /// From here on something is missing.
    pub(super) fn gap(&mut self, reason: String) -> io::Result<()> {
        let time_ns = self.now;
        self.event(Event { time_ns, kind: EventKind::Gap { reason } }).map(|_| ())
    }

    /// What somebody says of the machine, of which there is nothing to judge.
    pub(super) fn assume(&mut self, facts: KernelFacts) {
        self.analysis.assume(facts);
    }

    /// What comes next is of a file that speaks against its own mismatches.
    pub(super) fn beware(&mut self, caveat: Option<&Evidence>) {
        self.analysis.beware(caveat);
    }

    /// What is known at this point.
    pub(super) fn known(&self) -> &Known {
        self.analysis.known()
    }

    /// Whether whoever read the output has gone.
    pub(super) fn is_unread(&self) -> bool {
        self.outputs.unread
    }

    /// Judges an event, keeps it and shows it.
    pub(super) fn event(&mut self, event: Event) -> io::Result<&Judged> {
        self.now = event.time_ns;
        let judged = self.analysis.judge(event);
        #[cfg(feature = "live")]
        if let Some(recording) = &mut self.recording {
            recording.keep(&judged.event);
        }
        let is_hidden = self.only_wrong
            && judged.event.kind.is_about_a_guest()
            && judged.verdict() == Verdict::Ok;
        if !is_hidden {
            self.outputs.show(|screen| screen.event(judged))?;
        }
        Ok(judged)
    }

    /// The counts so far.
    pub(super) fn summary(&self) -> &Summary {
        self.analysis.summary()
    }

    /// Shows the counts.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut summary = self.analysis.summary().clone();
        summary.shape = self.analysis.known().history().shape();
        summary.stale = self.analysis.stale();
        self.outputs.show(|screen| screen.finish(&summary))
    }

    /// The next file: its machine is another.
    pub(super) fn next_machine(&mut self) {
        self.analysis.forget_machine();
    }
}

impl Outputs {
    /// Writes to all files, and to the standard output. Its reader may leave, as `| head -1` does;
    /// that is no error, and changes no verdict. One that cannot be written does not keep the others
    /// from what is theirs.
    fn show(&mut self, write: impl Fn(&mut dyn Sink) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        for (name, file) in &mut self.files {
            let named = |err: io::Error| io::Error::new(err.kind(), format!("{name}: {err}"));
            let written = write(file.as_mut()).map_err(named);
            result = result.and(written);
        }
        result.and(self.show_on_screen(write))
    }

    fn show_on_screen(
        &mut self,
        write: impl Fn(&mut dyn Sink) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        match write(screen.as_mut()) {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.screen = None;
                // Whoever wants a file still has it.
                self.unread = self.files.is_empty();
                Ok(())
            }
            shown => shown,
        }
    }
}

#[cfg(feature = "live")]
mod live {
    use std::io;
    use std::path::Path;

    use anyhow::{Result, bail};

    use super::{Judge, Recording};
    use crate::analysis::Summary;
    use crate::model::{Event, Run, ScenarioResult};
    use crate::recording::Rotation;

    impl Judge {
        /// Also records the observations.
        pub(in crate::cli) fn record_to(
            &mut self,
            path: &Path,
            rotation: Option<Rotation>,
        ) -> Result<()> {
            if path.as_os_str() == "-" && self.outputs.screen.is_some() {
                bail!("-o -: the standard output is taken: name a file, or use `record -o -`");
            }
            self.recording = Some(Recording::create(path, rotation)?);
            Ok(())
        }

        /// What comes next is of this run.
        pub(in crate::cli) fn run(&mut self, run: &Run) -> io::Result<()> {
            self.outputs.show(|screen| screen.run(run))
        }

        /// What comes next was made by this scenario.
        pub(in crate::cli) fn run_scenario(&mut self, scenario: Option<&'static str>) {
            self.analysis.run_scenario(scenario);
        }

        /// What came of a scenario.
        pub(in crate::cli) fn scenario(&mut self, result: &ScenarioResult) -> io::Result<()> {
            self.outputs.show(|screen| screen.scenario(result))
        }

        /// Nothing comes for the moment.
        pub(in crate::cli) fn flush(&mut self) -> io::Result<()> {
            self.outputs.show(|screen| screen.flush())
        }

        /// Takes an event in that is not asked for: others are held against it.
        pub(in crate::cli) fn pass_over(&mut self, event: &Event) {
            self.analysis.pass_over(event);
        }

        /// Lets no observation wait for long before it is recorded. To be called often.
        pub(in crate::cli) fn keep_up(&mut self) {
            if let Some(recording) = &mut self.recording {
                recording.keep_up();
            }
        }

        /// Whether nobody sees or keeps what comes.
        pub(in crate::cli) fn is_in_vain(&self) -> bool {
            self.outputs.screen.is_none()
                && self.recording.as_ref().is_none_or(Recording::has_failed)
        }

        /// Ends the recording.
        ///
        /// # Errors
        ///
        /// If it has failed at any time.
        pub(in crate::cli) fn end_recording(&mut self) -> Result<()> {
            self.recording.take().map_or(Ok(()), Recording::finish)
        }

        /// Shows what is about guests only if it is not ok.
        pub(in crate::cli) fn show_only_wrong(&mut self) {
            self.only_wrong = true;
        }

        /// The counts, to complete them.
        pub(in crate::cli) fn summary_mut(&mut self) -> &mut Summary {
            self.analysis.summary_mut()
        }
    }
}
