//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them; and through
//! scenarios, each of which sees for itself that KVM's tables lead where they should.

mod args;
mod module;
mod outcome;
mod reach;
mod report;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, anyhow};
use kvm_ioctls::Kvm;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::args::Args;
use self::module::{Unloaded, require_nested};
use self::outcome::Outcome;
use super::Exit;
use super::judge::Judge;
use super::output::print;
use crate::guest::{
    Case, CaseOutcome, Ended, Guest, Host, Runner, Scenario, Settings, run as run_guest,
};
use crate::kernel::Filter;
use crate::live::{Ahead, CannotRun, Options, Session, drop_privileges, preflight};
use crate::model::{Event, EventKind};

/// Drives the guests and judges.
pub(super) fn run(args: Args) -> Result<Exit> {
    if args.list {
        let mut list = String::new();
        for scenario in Scenario::ALL {
            writeln!(list, "{scenario:<10} {}", scenario.summary())?;
        }
        print(&list)?;
        return Ok(Exit::Clean);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(args))
}

async fn check(args: Args) -> Result<Exit> {
    // Whatever can fail without touching the machine comes first.
    preflight()?;
    let mut judge = Judge::new(&args.output);
    if let Some(path) = &args.output_file {
        judge.record_to(path, None)?;
    }
    if args.is_nested() {
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
        frames: true,
        ..Options::default()
    })?;
    let first = session.first_events();
    let outcome = Outcome::new(args.may_be_refused());
    let reach = Err("KVM's set-up is not known".to_owned());
    let mut check = Check { session, judge, outcome, reach };
    for event in first {
        check.judge(event)?;
    }
    if let Some(unloaded) = unloaded {
        check.load(unloaded).await?;
    }
    drop_privileges(Ahead { opens_files: true, ..Ahead::default() })?;
    let seed = args.seed();
    let patience = Duration::from_secs(args.patience);
    for scenario in args.scenarios() {
        let may_go_on = match scenario {
            Scenario::Decision => check.drive(args.guests(seed), patience, args.may_hang()).await?,
            scenario => {
                let settings = args.settings(seed, check.reach.clone());
                check.run(scenario, settings, patience).await?
            }
        };
        if !may_go_on {
            break;
        }
    }
    check.finish()
}

/// A run of `check`.
struct Check {
    session: Session,
    judge: Judge,
    outcome: Outcome,
    /// How many bits of address KVM's tables reach.
    reach: Result<u8, String>,
}

impl Check {
    /// Judges an event.
    fn judge(&mut self, event: Event) -> Result<()> {
        if let EventKind::Facts(facts) = &event.kind {
            self.reach = reach::of(facts);
        }
        self.outcome.note(&self.judge.event(event)?);
        Ok(())
    }

    /// Judges the next events.
    async fn judge_next(&mut self) -> Result<()> {
        self.session.next().await?.into_iter().try_for_each(|event| self.judge(event))?;
        self.judge.keep_up();
        Ok(self.judge.flush()?)
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

    /// Judges until a job has ended; how, or nothing if it does not end in time.
    async fn watch<T: Send + 'static>(
        &mut self,
        runner: &mut Runner<T>,
        patience: Duration,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + patience;
        loop {
            tokio::select! {
                judged = self.judge_next() => judged?,
                ended = runner.ended() => return Ok(Some(ended?)),
                () = sleep_until(deadline) => return Ok(None),
            }
        }
    }

    /// Runs the guests one after another, and judges meanwhile. Unless it `goes_on`, the first that
    /// does not end in time is the last: where KVM is broken, so would the others be. Whether there
    /// is a point in running more.
    async fn drive(
        &mut self,
        guests: impl Iterator<Item = Guest>,
        patience: Duration,
        goes_on: bool,
    ) -> Result<bool> {
        let mut runner = Runner::new(open_kvm()?)?;
        for guest in guests {
            let driven = guest.clone();
            runner.start(move |kvm, _| run_guest(kvm, &driven))?;
            if let Some(ended) = self.watch(&mut runner, patience).await? {
                self.outcome.ended(&guest, ended);
                continue;
            }
            let how = format!("not within {} s", patience.as_secs());
            self.outcome.ended(&guest, Ended::Otherwise(how));
            if !runner.interrupt().await || !goes_on {
                self.outcome.drove();
                return Ok(false);
            }
        }
        self.outcome.drove();
        Ok(true)
    }

    /// Runs a scenario, and judges meanwhile. Whether there is a point in running more.
    async fn run(
        &mut self,
        scenario: Scenario,
        settings: Settings,
        patience: Duration,
    ) -> Result<bool> {
        let mut runner = Runner::new(open_kvm()?)?;
        runner.start(move |kvm, stop| scenario.run(&Host { kvm, settings: &settings, stop }))?;
        if let Some(cases) = self.watch(&mut runner, patience).await? {
            self.outcome.ran(scenario, cases);
            return Ok(true);
        }
        let how = CaseOutcome::Failed(format!("did not end within {} s", patience.as_secs()));
        self.outcome.ran(scenario, vec![Case { name: "patience".to_owned(), outcome: how }]);
        Ok(runner.interrupt().await)
    }

    /// Takes in the last events, and says how it went.
    fn finish(mut self) -> Result<Exit> {
        let (last, counts) = self.session.finish()?;
        for event in last {
            self.outcome.note(&self.judge.event(event)?);
        }
        self.judge.summary_mut().hooks = counts;
        self.judge.finish()?;
        let exit = self.outcome.conclude(self.judge.summary());
        self.judge.end_recording()?;
        Ok(exit)
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
