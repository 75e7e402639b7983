//! `check`: drive guests through every MAXPHYADDR, and judge what KVM decides for them.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use kvm_ioctls::Kvm;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Exit;
use super::doctor::hook_statuses;
use super::output::{Judge, OutputArgs};
use crate::analysis::Judged;
use crate::guest::{Ended, Guest, guests, run as run_guest};
use crate::kernel::{Modules, Presence};
use crate::live::{CannotRun, Options, Session};
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
    let done = runtime.block_on(check(args));
    // A guest that never comes back holds its thread, and must not hold us.
    runtime.shutdown_background();
    done
}

async fn check(args: Args) -> Result<Exit> {
    let unloaded = if args.reload { Some(unload()?) } else { None };
    if unloaded.is_none() {
        open_kvm()?;
    }
    let options = Options {
        tgid: Some(std::process::id()),
        no_kprobes: args.tracepoints,
        ..Options::default()
    };
    let mut session = Session::start(&options)?;
    let mut judge = Judge::new(&args.output);
    if let Some(path) = &args.output_file {
        judge.record_to(path)?;
    }
    judge.begin(&hook_statuses(session.plan()), &session.plan().lost)?;
    judge.event(session.first_event())?;

    let mut coverage = Coverage::default();
    if let Some(module) = unloaded {
        modprobe(&[module])?;
        let loaded = Instant::now();
        while Instant::now() - loaded < Duration::from_secs(10) && !coverage.setup_seen {
            for event in session.next().await? {
                coverage.see(&judge.event(event)?);
            }
        }
    }
    let kvm = open_kvm()?;
    let guests = guests(&args.maxphyaddr, args.vcpus);
    let (report, done) = oneshot::channel();
    let patience = Duration::from_secs(args.patience);
    let planned = guests.clone();
    thread::spawn(move || report.send(drive(kvm, planned, patience)));
    let mut done = done;
    let ended = loop {
        tokio::select! {
            events = session.next() => {
                for event in events? {
                    coverage.see(&judge.event(event)?);
                }
            }
            ended = &mut done => break ended.context("the guests' thread is gone")?,
        }
    };
    // Whatever is still on its way.
    sleep(Duration::from_millis(50)).await;
    let (last, counts) = session.finish()?;
    for event in last {
        coverage.see(&judge.event(event)?);
    }
    judge.summary_mut().hooks = counts;
    judge.finish()?;
    conclude(&judge, &coverage, &guests, ended)
}

fn conclude(
    judge: &Judge,
    coverage: &Coverage,
    guests: &[Guest],
    ended: Result<Vec<(Guest, String)>>,
) -> Result<Exit> {
    let failed = ended?;
    for (guest, how) in &failed {
        eprintln!("ept-trace: the guest with {guest} did not halt: {how}");
    }
    let unseen: BTreeSet<u8> = guests
        .iter()
        .map(|guest| guest.cpuid.maxphyaddr())
        .filter(|bits| !coverage.maxphyaddrs.contains(&u32::from(*bits)))
        .collect();
    if !unseen.is_empty() {
        eprintln!("ept-trace: no decision was seen for MAXPHYADDR {unseen:?}");
    }
    Ok(match Exit::of(judge.summary()) {
        Exit::Mismatch => Exit::Mismatch,
        _ if !failed.is_empty() => Exit::Failure,
        Exit::Clean if !unseen.is_empty() => Exit::Incomplete,
        exit => exit,
    })
}

/// What was seen of the guests.
#[derive(Default)]
struct Coverage {
    maxphyaddrs: BTreeSet<u32>,
    setup_seen: bool,
}

impl Coverage {
    fn see(&mut self, judged: &Judged) {
        match &judged.event.kind {
            EventKind::Decision(decision) => self.maxphyaddrs.extend(decision.maxphyaddr),
            EventKind::ConfigureMmu(_) => self.setup_seen = true,
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

/// Runs the guests one after another; those that did not halt, and why.
fn drive(kvm: Kvm, guests: Vec<Guest>, patience: Duration) -> Result<Vec<(Guest, String)>> {
    // On a thread of their own: a guest with broken page tables never comes back from KVM_RUN.
    let (report, ended) = mpsc::channel();
    let planned = guests.clone();
    thread::spawn(move || {
        for guest in planned {
            if report.send(run_guest(&kvm, &guest)).is_err() {
                break;
            }
        }
    });
    let mut failed = Vec::new();
    for guest in guests {
        match ended.recv_timeout(patience) {
            Ok(Ok(Ended::Halted)) => {}
            Ok(Ok(Ended::Otherwise(how))) => failed.push((guest, how)),
            Ok(Err(err)) => failed.push((guest, format!("{err:#}"))),
            Err(_) => {
                failed.push((guest, format!("not within {} s", patience.as_secs())));
                break;
            }
        }
    }
    Ok(failed)
}

/// Unloads the vendor module, and says which to load again.
fn unload() -> Result<&'static str> {
    let modules = Modules::read();
    let module = match &modules.vendor {
        (Vendor::Vmx, Presence::Loaded) => "kvm_intel",
        (Vendor::Svm, Presence::Loaded) => "kvm_amd",
        (Vendor::None, _) => {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
            let has = |flag: &str| cpuinfo.split_ascii_whitespace().any(|word| word == flag);
            return match (has("vmx"), has("svm")) {
                (true, _) => Ok("kvm_intel"),
                (_, true) => Ok("kvm_amd"),
                _ => bail!(CannotRun("this CPU offers neither VMX nor SVM".to_owned())),
            };
        }
        (vendor, _) => bail!(CannotRun(format!("{vendor} cannot be unloaded: it is built in"))),
    };
    modprobe(&["-r", module])?;
    Ok(module)
}

fn modprobe(arguments: &[&str]) -> Result<()> {
    let status = Command::new("modprobe").args(arguments).status().context("modprobe")?;
    if !status.success() {
        bail!("`modprobe {}` failed ({status}); are virtual machines running?", arguments.join(" "));
    }
    Ok(())
}
