//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use kvm_ioctls::Kvm;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Exit;
use super::judge::Judge;
use super::output::OutputArgs;
use crate::analysis::Judged;
use crate::guest::{Ended, Guest, guests, run as run_guest};
use crate::kernel::{Modules, Presence};
use crate::live::{CannotRun, Options, Session, preflight};
use crate::model::{EventKind, Vendor};

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// MAXPHYADDR values of the guests, in bits
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_value = "32,36,39,40,46,48,49,52")]
    maxphyaddr: Vec<u8>,
    /// vCPUs of a guest with several
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// Load the vendor module (again) meanwhile, so that `hardware_setup` is seen
    #[arg(long)]
    reload: bool,
    /// Seconds after which a guest that does not halt is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Use tracepoints alone, even where functions can be hooked
    #[arg(long)]
    tracepoints: bool,
    /// Write the observations to a file, for `analyze`
    #[arg(short, value_name = "FILE")]
    output_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

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
    let unloaded = if args.reload {
        Some(Unloaded::new()?)
    } else {
        open_kvm()?;
        None
    };
    let mut session = Session::start(Options {
        tgid: Some(std::process::id()),
        no_kprobes: args.tracepoints,
        ..Options::default()
    })?;
    for event in session.first_events() {
        judge.event(event)?;
    }

    let mut seen = Seen::default();
    if let Some(unloaded) = unloaded {
        load(unloaded, &mut session, &mut judge, &mut seen).await?;
    }
    let guests = guests(&args.maxphyaddr, args.vcpus);
    let patience = Duration::from_secs(args.patience);
    let failed = drive(&guests, patience, &mut session, &mut judge, &mut seen).await?;
    let (last, counts) = session.finish()?;
    for event in last {
        seen.note(&judge.event(event)?);
    }
    judge.summary_mut().hooks = counts;
    judge.finish()?;
    Ok(conclude(&judge, &seen, &guests, &failed))
}

/// Loads the vendor module, and waits until its set-up is over.
async fn load(
    unloaded: Unloaded,
    session: &mut Session,
    judge: &mut Judge,
    seen: &mut Seen,
) -> Result<()> {
    unloaded.load()?;
    let patience = sleep(Duration::from_secs(10));
    tokio::pin!(patience);
    while !seen.set_up {
        tokio::select! {
            events = session.next() => {
                for event in events? {
                    seen.note(&judge.event(event)?);
                }
            }
            () = &mut patience => break,
        }
    }
    Ok(())
}

/// Runs the guests one after another, and judges meanwhile; those that did not halt, and why.
async fn drive(
    guests: &[Guest],
    patience: Duration,
    session: &mut Session,
    judge: &mut Judge,
    seen: &mut Seen,
) -> Result<Vec<(Guest, String)>> {
    // On a thread of their own: a guest with broken page tables never comes back from KVM_RUN.
    let kvm = open_kvm()?;
    let (report, mut ended) = mpsc::unbounded_channel();
    let planned = guests.to_vec();
    thread::spawn(move || {
        planned.iter().all(|guest| report.send(run_guest(&kvm, guest)).is_ok());
    });
    let mut failed = Vec::new();
    let mut waiting = guests.iter();
    let mut current = waiting.next();
    let mut deadline = Instant::now() + patience;
    while let Some(guest) = current {
        tokio::select! {
            events = session.next() => {
                for event in events? {
                    seen.note(&judge.event(event)?);
                }
                continue;
            }
            end = ended.recv() => match end {
                Some(Ok(Ended::Halted)) => {}
                Some(Ok(Ended::Otherwise(how))) => failed.push((*guest, how)),
                Some(Err(err)) => failed.push((*guest, format!("{err:#}"))),
                None => bail!("the guests' thread is gone"),
            },
            () = sleep_until(deadline) => {
                failed.push((*guest, format!("not within {} s", patience.as_secs())));
                break;
            }
        }
        current = waiting.next();
        deadline = Instant::now() + patience;
    }
    Ok(failed)
}

fn conclude(judge: &Judge, seen: &Seen, guests: &[Guest], failed: &[(Guest, String)]) -> Exit {
    for (guest, how) in failed {
        eprintln!("ept-trace: the guest with {guest} did not halt: {how}");
    }
    let unseen: BTreeSet<u8> = guests
        .iter()
        .map(|guest| guest.cpuid.maxphyaddr())
        .filter(|bits| !seen.judged.contains(&u32::from(*bits)))
        .collect();
    if !unseen.is_empty() {
        let list: Vec<_> = unseen.iter().map(u8::to_string).collect();
        eprintln!("ept-trace: no root level was judged for MAXPHYADDR {}", list.join(", "));
    }
    match Exit::of(judge.summary()) {
        Exit::Mismatch => Exit::Mismatch,
        _ if !failed.is_empty() => Exit::Failure,
        Exit::Clean if !unseen.is_empty() => Exit::Incomplete,
        exit => exit,
    }
}

/// What was seen of the guests, and of the module being loaded.
#[derive(Default)]
struct Seen {
    /// MAXPHYADDR of the guests whose root level was held against an expectation.
    judged: BTreeSet<u32>,
    set_up: bool,
}

impl Seen {
    fn note(&mut self, judged: &Judged) {
        match &judged.event.kind {
            EventKind::Decision(decision) if judged.is_judged() => {
                self.judged.extend(decision.maxphyaddr);
            }
            EventKind::ConfigureMmu(_) => self.set_up = true,
            _ => {}
        }
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

/// A vendor module that is not loaded; loaded again when dropped, so that no failure leaves the
/// machine without.
struct Unloaded {
    module: &'static str,
    is_due: bool,
}

impl Unloaded {
    /// Unloads the vendor module; if there is none, that of this CPU is taken to be it.
    fn new() -> Result<Self> {
        let modules = Modules::read();
        let module = match &modules.vendor {
            (Vendor::Vmx, Presence::Loaded) => "kvm_intel",
            (Vendor::Svm, Presence::Loaded) => "kvm_amd",
            (Vendor::None, _) => {
                return Ok(Self { module: vendor_module_of_cpu()?, is_due: false });
            }
            (vendor, Presence::BuiltIn) => {
                bail!(CannotRun(format!("{vendor} cannot be unloaded: it is built in")))
            }
            (vendor, Presence::InTransit) => bail!("{vendor} is just being loaded or unloaded"),
            (vendor, _) => bail!(CannotRun(format!("how to load {vendor} again is not known"))),
        };
        modprobe(&["-r", module])?;
        Ok(Self { module, is_due: true })
    }

    /// Loads it.
    fn load(mut self) -> Result<()> {
        self.is_due = false;
        modprobe(&[self.module])
    }
}

impl Drop for Unloaded {
    fn drop(&mut self) {
        if self.is_due
            && let Err(err) = modprobe(&[self.module])
        {
            eprintln!("ept-trace: {} is not loaded: {err:#}", self.module);
        }
    }
}

fn vendor_module_of_cpu() -> Result<&'static str> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let has = |flag: &str| cpuinfo.split_ascii_whitespace().any(|word| word == flag);
    match (has("vmx"), has("svm")) {
        (true, _) => Ok("kvm_intel"),
        (_, true) => Ok("kvm_amd"),
        _ => bail!(CannotRun("this CPU offers neither VMX nor SVM".to_owned())),
    }
}

fn modprobe(arguments: &[&str]) -> Result<()> {
    let status = Command::new("modprobe").args(arguments).status().context("modprobe")?;
    if !status.success() {
        bail!(
            "`modprobe {}` failed ({status}); are virtual machines running?",
            arguments.join(" ")
        );
    }
    Ok(())
}
