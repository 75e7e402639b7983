//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them.

mod args;
mod module;
mod outcome;

use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use kvm_ioctls::Kvm;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::args::Args;
use self::module::{Unloaded, require_nested};
use self::outcome::Outcome;
use super::Exit;
use super::judge::Judge;
use crate::guest::{Ended, Guest, run as run_guest};
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
        tgid: Some(std::process::id()),
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
    check.drive(args.guests(), Duration::from_secs(args.patience)).await?;
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

    /// Runs the guests one after another, and judges meanwhile.
    async fn drive(
        &mut self,
        guests: impl Iterator<Item = Guest>,
        patience: Duration,
    ) -> Result<()> {
        // On a thread of their own: a guest with broken page tables never comes back from KVM_RUN.
        let kvm = open_kvm()?;
        let (order, orders) = blocking::channel::<Guest>();
        let (report, mut reports) = mpsc::unbounded_channel();
        thread::spawn(move || {
            orders.iter().all(|guest| report.send(run_guest(&kvm, &guest)).is_ok())
        });
        for guest in guests {
            order.send(guest.clone())?;
            let deadline = Instant::now() + patience;
            let ended = loop {
                tokio::select! {
                    judged = self.judge_next() => judged?,
                    report = reports.recv() => break match report {
                        Some(Ok(ended)) => ended,
                        Some(Err(err)) => Ended::Otherwise(format!("{err:#}")),
                        None => bail!("the guests' thread is gone"),
                    },
                    () = sleep_until(deadline) => {
                        let how = format!("not within {} s", patience.as_secs());
                        self.outcome.ended(&guest, Ended::Otherwise(how));
                        // Its thread is lost, and with it those that should follow.
                        return Ok(());
                    }
                }
            };
            self.outcome.ended(&guest, ended);
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
