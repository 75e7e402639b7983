//! `watch` and `record`: observe this machine while it runs.

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::Exit;
use super::judge::Judge;
use super::output::{OutputArgs, print};
use super::recording::RotationArgs;
use crate::kernel::Filter;
use crate::live::{Ahead, Options, Session, drop_privileges, preflight, runtime};
use crate::model::{Event, EventKind};

/// The arguments of `watch`.
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    select: SelectArgs,
    /// Show and keep only what is not ok of guests; the rest is dropped in the kernel, and counted
    #[arg(long)]
    mismatches: bool,
    /// Also record the observations in a file, for `analyze`
    #[arg(short, value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    rotation: RotationArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Load and attach everything, then exit
    #[arg(long)]
    dry_run: bool,
    /// List the hooks of the plan, and exit
    #[arg(short, long)]
    list: bool,
    /// Watch while this command runs
    #[arg(last = true)]
    command: Vec<OsString>,
    /// Not shown: `record` is `watch` without an output.
    #[arg(skip)]
    silent: bool,
}

/// The arguments of `record`.
#[derive(clap::Args)]
pub(super) struct RecordArgs {
    /// The file to write; - is the standard output
    #[arg(short, value_name = "FILE")]
    output_file: PathBuf,
    #[command(flatten)]
    rotation: RotationArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Record while this command runs
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// What to watch, and how long.
#[derive(clap::Args)]
struct SelectArgs {
    /// Only this process
    #[arg(short, long)]
    pid: Option<u32>,
    /// Only this VM, by its number in the output
    #[arg(long)]
    vm: Option<u32>,
    /// Only this vCPU, by its id
    #[arg(long)]
    vcpu: Option<u32>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Stop after so many decisions
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Which EPT walks to capture: all, off, or 1/N for one of N
    #[arg(long, value_name = "all|off|1/N", default_value = "all", value_parser = parse_walks)]
    walks: u32,
    /// Also capture which frame each fault is resolved to (EPT303, EPT304); kvm cannot be unloaded
    /// meanwhile
    #[arg(long)]
    frames: bool,
    /// Also capture each change of an entry, and judge it against those before; kvm cannot be unloaded
    /// meanwhile
    #[arg(long)]
    history: bool,
    /// Use tracepoints alone, even where functions can be hooked
    #[arg(long)]
    tracepoints: bool,
    /// Size of the ring buffer in KiB, a power of two
    #[arg(long, value_name = "KIB", value_parser = parse_ring)]
    ring: Option<u32>,
    /// Load another eBPF object than the one built in
    #[arg(long, value_name = "FILE", hide = true)]
    ebpf_object: Option<PathBuf>,
}

fn parse_ring(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|err| format!("{err}"))?;
    if !(4..=1 << 20).contains(&kib) || !kib.is_power_of_two() {
        return Err("a power of two from 4 to 1048576".to_owned());
    }
    Ok(kib << 10)
}

fn parse_walks(text: &str) -> Result<u32, String> {
    match text {
        "all" => Ok(1),
        "off" => Ok(0),
        _ => text
            .strip_prefix("1/")
            .and_then(|every| every.parse().ok())
            .filter(|every| *every > 0)
            .ok_or_else(|| "`all`, `off`, or `1/N` with N from 1 on".to_owned()),
    }
}

impl From<RecordArgs> for Args {
    fn from(args: RecordArgs) -> Self {
        Self {
            select: args.select,
            mismatches: false,
            output_file: Some(args.output_file),
            rotation: args.rotation,
            output: OutputArgs {
                format: super::output::Format::Text,
                json: false,
                quiet: true,
                color: super::output::Colour::Never,
            },
            dry_run: false,
            list: false,
            command: args.command,
            silent: true,
        }
    }
}

impl Args {
    /// Whether the recording goes to the standard output.
    fn records_to_output(&self) -> bool {
        self.output_file.as_deref() == Some(Path::new("-"))
    }
}

impl SelectArgs {
    fn options(&self) -> Options {
        Options {
            filter: Filter {
                tgid: self.pid,
                drop_right: false,
                one_walk_in: self.walks,
                history: self.history,
            },
            no_kprobes: self.tracepoints,
            frames: self.frames,
            ring_bytes: self.ring,
            object: self.ebpf_object.clone(),
        }
    }

    /// Whether there are as many decisions as were asked for.
    fn is_enough(&self, judge: &Judge) -> bool {
        self.stop_after.is_some_and(|count| judge.summary().decisions >= count)
    }

    /// Whether an event is one that is asked for.
    fn wants(&self, event: &Event) -> bool {
        let is = |wanted: Option<u32>, is: Option<u32>| {
            wanted.is_none_or(|wanted| is.is_none_or(|is| is == wanted))
        };
        is(self.vm, event.kind.vm()) && is(self.vcpu, event.kind.vcpu())
    }
}

fn is_decision(event: &Event) -> bool {
    matches!(event.kind, EventKind::Decision(_))
}

/// Watches until told to stop.
pub(super) fn run(args: Args) -> Result<Exit> {
    runtime()?.block_on(watch(args))
}

async fn watch(args: Args) -> Result<Exit> {
    preflight()?;
    let mut judge = if args.silent { Judge::default() } else { Judge::new(&args.output) };
    if let Some(path) = &args.output_file {
        // First: a pipe waits for its reader.
        judge.record_to(path, args.rotation.rotation())?;
    }
    let locked_memory = getrlimit(Resource::Memlock);
    let mut options = args.select.options();
    options.filter.drop_right = args.mismatches;
    let mut session = Session::start(options)?;
    if args.list {
        for planned in &session.plan().hooks {
            let (mark, how) = match &planned.attach {
                Ok(attach) => ('+', attach.to_string()),
                Err(why) => ('-', why.clone()),
            };
            print(&format!("{mark} {:<32}{how}\n", planned.name))?;
        }
        return Ok(Exit::Clean);
    }
    if args.mismatches {
        judge.show_only_wrong();
    }
    for event in session.first_events() {
        judge.event(event)?;
    }
    judge.flush()?;
    if args.dry_run {
        return Ok(Exit::Clean);
    }

    // The command has what whoever called us has; we ourselves do with less from here on.
    let child = start(&args.command, args.records_to_output(), locked_memory)?;
    drop_privileges(Ahead {
        ends_command: child.is_some(),
        opens_files: args.rotation.rotation().is_some(),
    })?;
    let status = observe(&args.select, &mut session, &mut judge, child).await?;
    let (last, counts) = session.finish()?;
    for event in last {
        if !args.select.wants(&event) {
            judge.pass_over(&event);
        } else if !args.select.is_enough(&judge) || !is_decision(&event) {
            judge.event(event)?;
        }
    }
    judge.summary_mut().hooks = counts;
    judge.finish()?;
    if args.silent && judge.summary().mismatches > 0 {
        let file = args.output_file.as_deref().unwrap_or(Path::new("the recording"));
        eprintln!("ept-trace: mismatches: see `ept-trace analyze {}`", file.display());
    }
    judge.end_recording()?;
    Ok(match (Exit::of(judge.summary()), status) {
        // The command's own failure is not hidden behind a clean watch.
        (Exit::Clean, Some(status)) if !status.success() => Exit::OfCommand(code_of(status)),
        (exit, _) => exit,
    })
}

/// The exit code of a command as a shell tells it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Shows what comes until the end: of the command, of the time, or by a signal.
async fn observe(
    select: &SelectArgs,
    session: &mut Session,
    judge: &mut Judge,
    mut child: Option<Child>,
) -> Result<Option<ExitStatus>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let deadline = select.duration.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut status = None;
    loop {
        let events = tokio::select! {
            events = session.next() => events?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
            () = at(deadline) => break,
            ended = ended(&mut child) => {
                status = Some(ended?);
                break;
            }
        };
        for event in events {
            if !select.wants(&event) {
                judge.pass_over(&event);
            } else if !select.is_enough(judge) {
                judge.event(event)?;
            }
        }
        judge.keep_up();
        judge.flush()?;
        if select.is_enough(judge) || judge.is_in_vain() {
            break;
        }
    }
    if let (None, Some(child)) = (status, &mut child) {
        child.kill().await.context("the command cannot be stopped")?;
    }
    Ok(status)
}

fn start(
    command: &[OsString],
    is_output_taken: bool,
    locked_memory: Rlimit,
) -> Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let mut child = Command::new(program);
    child.args(arguments).kill_on_drop(true);
    if is_output_taken {
        // What it prints is no part of the recording.
        child.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    // Before 5.11 maps count as locked memory, and loading them raises the limit, for us alone.
    let restore = move || Ok(setrlimit(Resource::Memlock, locked_memory)?);
    // SAFETY: one system call, which takes no lock and allocates nothing.
    unsafe { child.pre_exec(restore) };
    let child = child.spawn().with_context(|| program.display().to_string())?;
    Ok(Some(child))
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn ended(child: &mut Option<Child>) -> io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => pending().await,
    }
}
