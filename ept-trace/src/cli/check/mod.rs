//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them; and through
//! scenarios, each of which sees for itself that KVM's tables lead where they should.

mod args;
mod keep;
mod module;
mod outcome;
mod place;
mod reach;
mod unwatched;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use kvm_ioctls::Kvm;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::args::Args;
use self::keep::Keep;
use self::module::Unloaded;
use self::outcome::Outcome;
use super::Exit;
use super::judge::Judge;
use super::output::{self, print};
use crate::guest::{Ended, Guest, Host, Runner, Scenario, Settings, run as run_guest};
use crate::kernel::Filter;
use crate::live::{Ahead, CannotRun, Options, Session, clock, drop_privileges, preflight, runtime};
use crate::model::{Case, CaseOutcome, Event, EventKind};

/// Drives the guests and judges.
pub(super) fn run(args: &Args) -> Result<Exit> {
    if args.list {
        let mut list = String::new();
        for scenario in Scenario::ALL {
            writeln!(list, "{scenario:<10} {}", scenario.summary())?;
        }
        print(&list)?;
        return Ok(Exit::Clean);
    }
    if args.unwatched {
        return runtime()?.block_on(unwatched::run(args));
    }
    let is_scenario = |name: &str| name.parse::<Scenario>().is_ok();
    let is_terminal = io::stdout().is_terminal();
    let mut judge = args.reports.judge(Box::new(output::lines()), is_terminal, is_scenario)?;
    let scenarios = args.scenarios();
    let seed = args.seed();
    let command = args.command(&scenarios, seed);
    judge.run(&place::here(command.clone()))?;
    let mut outcome = Outcome::new(args.may_be_refused());
    let mut kept = None;
    let ran = runtime().and_then(|runtime| {
        runtime.block_on(check(args, seed, &mut judge, &mut outcome, &mut kept))
    });
    // What could not be run is in every report, and so is why.
    let why = match &ran {
        Ok(()) => CaseOutcome::Skipped("KVM does not let go of the guests before".to_owned()),
        Err(err) if err.is::<CannotRun>() => CaseOutcome::Skipped(format!("{err:#}")),
        Err(err) => CaseOutcome::Failed(format!("{err:#}")),
    };
    outcome.not_run(&scenarios, &why);
    let results = outcome.results(|scenario| args.command(&[scenario], seed));
    let told = results.into_iter().try_for_each(|result| judge.scenario(result));
    let told = told.and(judge.finish()).map_err(anyhow::Error::from);
    if let Err(err) = ran.and(told) {
        if let Some(kept) = kept.filter(|_| !err.is::<CannotRun>()) {
            // What went wrong first is told; the recording has what came before it.
            let _ = judge.end_recording();
            eprintln!("ept-trace: it is recorded in {}", kept.keep().display());
        }
        return Err(err);
    }
    let exit = outcome.conclude(judge.summary());
    let recorded = judge.end_recording();
    if kept.is_none() {
        recorded?;
    }
    if matches!(exit, Exit::Mismatch | Exit::Failure) {
        eprintln!("ept-trace: all of it can be repeated with: {command}");
        if let Some(kept) = kept {
            eprintln!("ept-trace: it is recorded in {}", kept.keep().display());
        }
    }
    Ok(exit)
}

async fn check(
    args: &Args,
    seed: u64,
    judge: &mut Judge,
    outcome: &mut Outcome,
    kept: &mut Option<Keep>,
) -> Result<()> {
    // Whatever can fail without touching the machine comes first.
    preflight()?;
    match &args.output_file {
        Some(path) => judge.record_to(path, None)?,
        None => *kept = Keep::new(&args.keep, judge),
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
    let reach = Err("KVM's set-up is not known".to_owned());
    let is_ahead = Arc::default();
    let mut check = Check { session, judge, outcome, reach, begun: Vec::new(), is_ahead };
    for event in first {
        check.judge(event)?;
    }
    if let Some(unloaded) = unloaded {
        check.load(unloaded).await?;
    }
    drop_privileges(Ahead { opens_files: true, ..Ahead::default() })?;
    let patience = Duration::from_secs(args.patience);
    for scenario in args.scenarios() {
        check.begin(scenario);
        let may_go_on = match scenario {
            Scenario::Decision => check.drive(args.guests(seed), patience, args.may_hang()).await?,
            scenario => {
                let settings = args.settings(seed, check.reach.clone());
                let patience = patience + settings.time;
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
struct Check<'a> {
    session: Session,
    outcome: &'a mut Outcome,
    judge: &'a mut Judge,
    /// How many bits of address KVM's tables reach.
    reach: Result<u8, String>,
    /// The scenarios that have begun, and when, in nanoseconds.
    begun: Vec<(u64, Scenario)>,
    /// Whether the guests are ahead of what was judged.
    is_ahead: Arc<AtomicBool>,
}

impl Check<'_> {
    /// A scenario begins.
    fn begin(&mut self, scenario: Scenario) {
        self.begun.push((clock(), scenario));
        self.outcome.begin();
    }

    /// Judges an event.
    fn judge(&mut self, event: Event) -> Result<()> {
        if let EventKind::Facts(facts) = &event.kind {
            self.reach = reach::of(facts);
        }
        judge_event(self.judge, self.outcome, &self.begun, event)
    }

    /// Judges the next events.
    async fn judge_next(&mut self) -> Result<()> {
        self.session.next().await?.into_iter().try_for_each(|event| self.judge(event))?;
        self.is_ahead.store(self.session.is_behind(), Ordering::Relaxed);
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
        let is_ahead = Arc::clone(&self.is_ahead);
        runner.start(move |kvm, stop| {
            scenario.run(&Host { kvm, settings: &settings, stop, is_ahead: &is_ahead })
        })?;
        if let Some(cases) = self.watch(&mut runner, patience).await? {
            self.outcome.ran(scenario, cases);
            return Ok(true);
        }
        let outcome = CaseOutcome::Failed(format!("did not end within {} s", patience.as_secs()));
        let case = Case { name: "patience".to_owned(), outcome, took: patience };
        self.outcome.ran(scenario, vec![case]);
        Ok(runner.interrupt().await)
    }

    /// Takes in the last events.
    fn finish(self) -> Result<()> {
        let (last, counts) = self.session.finish()?;
        for event in last {
            judge_event(self.judge, self.outcome, &self.begun, event)?;
        }
        self.judge.summary_mut().hooks = counts;
        Ok(())
    }
}

/// Judges an event, which may be of a scenario that has ended meanwhile.
fn judge_event(
    judge: &mut Judge,
    outcome: &mut Outcome,
    begun: &[(u64, Scenario)],
    event: Event,
) -> Result<()> {
    let of = begun.iter().rev().find(|(began, _)| *began <= event.time_ns);
    judge.run_scenario(of.map(|(_, scenario)| scenario.name()));
    outcome.note(judge.event(event)?);
    Ok(())
}

fn open_kvm() -> Result<Kvm> {
    Kvm::new().map_err(|err| {
        anyhow!(CannotRun(format!(
            "/dev/kvm: {err}: load kvm_intel or kvm_amd (`modprobe`), and see that this user may \
             open it"
        )))
    })
}
