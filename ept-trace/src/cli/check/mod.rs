//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them.

mod args;
mod module;
mod outcome;

use std::time::Duration;

use anyhow::{Result, anyhow};
use kvm_ioctls::Kvm;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::args::Args;
use self::module::{Unloaded, require_nested};
use self::outcome::Outcome;
use super::Exit;
use super::judge::Judge;
use crate::guest::{Ended, Guest, Runner};
use crate::kernel::Filter;
use crate::live::{CannotRun, Options, Session, preflight};

/// Drives the guests and judges.
pub(super) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(args))
}

async fn check(args: Args) -> Result<Exit> {
    // Whatever can fail without touching the machine comes first.
    preflight()?;
    let mut judge = Judge::new(&args.output);
    if let Some(path) = &args.output_file {
        judge.record_to(path)?;
    }
    if args.nested {
        require_nested()?;
    }
    let unloaded = if args.reload {
        Some(Unloaded::new()?)
    } else {
        open_kvm()?;
        None
    };
    let session = Session::start(Options {
        filter: Filter {
            tgid: Some(std::process::id()),
            one_walk_in: 1,
            history: args.history,
            ..Filter::default()
        },
        no_kprobes: args.tracepoints,
        ..Options::default()
    })?;
    for event in session.first_events() {
        judge.event(event)?;
    }

    let mut check = Check { session, judge, outcome: Outcome::new(args.may_be_refused()) };
    if let Some(unloaded) = unloaded {
        check.load(unloaded).await?;
    }
    let patience = Duration::from_secs(args.patience);
    check.drive(args.guests(), patience, args.may_hang()).await?;
    check.finish()
}

/// A run of `check`.
struct Check {
    session: Session,
    judge: Judge,
    outcome: Outcome,
}

impl Check {
    /// Judges the next events.
    async fn judge_next(&mut self) -> Result<()> {
        for event in self.session.next().await? {
            self.outcome.note(&self.judge.event(event)?);
        }
        Ok(())
    }

    /// Loads the vendor module, and waits until its set-up is over.
    async fn load(&mut self, unloaded: Unloaded) -> Result<()> {
        unloaded.load()?;
        let patience = sleep(Duration::from_secs(10));
        tokio::pin!(patience);
        while !self.outcome.set_up {
            tokio::select! {
                judged = self.judge_next() => judged?,
                () = &mut patience => break,
            }
        }
        Ok(())
    }

    /// Runs the guests one after another, and judges meanwhile. Unless it `goes_on`, the first that
    /// does not end in time is the last: where KVM is broken, so would the others be.
    async fn drive(
        &mut self,
        guests: impl Iterator<Item = Guest>,
        patience: Duration,
        goes_on: bool,
    ) -> Result<()> {
        let mut runner = Runner::new(open_kvm()?)?;
        for guest in guests {
            runner.start(&guest)?;
            let deadline = Instant::now() + patience;
            let ended = loop {
                tokio::select! {
                    judged = self.judge_next() => judged?,
                    ended = runner.ended() => break Some(ended?),
                    () = sleep_until(deadline) => break None,
                }
            };
            if let Some(ended) = ended {
                self.outcome.ended(&guest, ended);
                continue;
            }
            let how = format!("not within {} s", patience.as_secs());
            self.outcome.ended(&guest, Ended::Otherwise(how));
            if !runner.interrupt().await || !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Takes in the last events, and says how it went.
    fn finish(mut self) -> Result<Exit> {
        let (last, counts) = self.session.finish()?;
        for event in last {
            self.outcome.note(&self.judge.event(event)?);
        }
        self.judge.summary_mut().hooks = counts;
        self.judge.finish()?;
        Ok(self.outcome.conclude(self.judge.summary()))
    }
}

fn open_kvm() -> Result<Kvm> {
    Kvm::new().map_err(|err| {
        anyhow!(CannotRun(format!(
            "/dev/kvm: {err}: load kvm_intel or kvm_amd (`modprobe`), and see that this user may \
             open it"
        )))
    })
}
