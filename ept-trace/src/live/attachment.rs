//! Attaching programs to kprobe events and tracepoints.
//!
//! Both go the same way: an event of tracefs, a perf event opened on it, the program set on that.
//! Kprobes are made as tracefs events, and not through perf's own interface, for three reasons:
//! the kernel arms such an event when its module is loaded, and again when it is loaded anew;
//! it counts hits and misses on every kernel; and module and symbol can be named.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::kernel::Tracefs;

const GROUP_PREFIX: &str = "ept_trace_";

/// `PERF_EVENT_IOC_SET_BPF`, `_IOW('$', 8, __u32)`.
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;
/// `PERF_TYPE_TRACEPOINT`.
const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// `struct perf_event_attr` in its first published size, all that a tracepoint needs.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

/// A program attached to an event; detached when dropped.
#[derive(Debug)]
pub(super) struct Attachment {
    _perf_event: OwnedFd,
}

/// Sets a loaded program on the event with this id.
pub(super) fn attach(program: BorrowedFd<'_>, event_id: u64) -> io::Result<Attachment> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: u32::try_from(size_of::<PerfEventAttr>()).unwrap_or_default(),
        config: event_id,
        ..PerfEventAttr::default()
    };
    // The program runs on every CPU: it belongs to the event, the CPU named here only to the
    // samples, of which there are none.
    let (pid, cpu, group) = (-1, 0, -1);
    // SAFETY: attr is a valid perf_event_attr of the size it states; the call keeps no pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            pid,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    let perf_event = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the ioctl takes the program's descriptor by value.
    let set =
        unsafe { libc::ioctl(perf_event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Attachment { _perf_event: perf_event })
}

/// A kprobe event of our own; it stays until it is removed.
#[derive(Debug)]
pub(super) struct KprobeEvent {
    group: String,
    name: String,
}

/// Where in a function an event is.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// At its entry, or at an instruction.
    Instruction,
    /// At its return.
    Return,
    /// At its return, and it sleeps: as many calls may be in progress as vCPUs wait for memory. The
    /// kernel's own guess, twice the CPUs, is made for functions that do not.
    ReturnOfSleeper,
}

impl At {
    /// As tracefs names it; 1024 is how many calls may be in progress.
    fn kind(self) -> &'static str {
        match self {
            Self::Instruction => "p",
            Self::Return => "r",
            Self::ReturnOfSleeper => "r1024",
        }
    }
}

impl KprobeEvent {
    /// Makes the event.
    pub(super) fn create(
        tracefs: &Tracefs,
        name: &str,
        place: &str,
        at: At,
        deferred: bool,
    ) -> Result<Self> {
        let group = own_group();
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // kprobe_profile shows no groups, so the name alone must tell whose it is.
        let name = format!("{name}_{}", own_id());
        let kind = at.kind();
        tracefs
            .command(&format!("{kind}:{group}/{name} {place}\n"))
            .map_err(|err| refused(err, place, deferred))?;
        Ok(Self { group, name })
    }

    /// Its id.
    pub(super) fn id(&self, tracefs: &Tracefs) -> Result<u64> {
        tracefs.id(&self.group, &self.name)
    }

    /// Hits and misses, by the kernel's own count.
    pub(super) fn profile(&self, tracefs: &Tracefs) -> Result<(u64, u64)> {
        tracefs.kprobe_profile(&self.name)
    }

    /// Removes the event.
    pub(super) fn remove(self, tracefs: &Tracefs) {
        if let Err(err) = remove_event(tracefs, &self.group, &self.name, Duration::from_secs(2)) {
            log::warn!("kprobe event {}/{} stays behind: {err}", self.group, self.name);
        }
    }
}

fn refused(err: io::Error, place: &str, deferred: bool) -> anyhow::Error {
    let hint = match err.raw_os_error() {
        Some(libc::ENOENT) => "no such function",
        Some(libc::EINVAL) if deferred => "this kernel cannot wait for the module: load it first",
        Some(libc::EINVAL) => "the kernel does not let this function be traced",
        Some(libc::EPERM | libc::EACCES) => "not permitted: run as root; lockdown may forbid it",
        _ => "refused by the kernel",
    };
    anyhow!(err).context(format!("kprobe on {place}: {hint}"))
}

/// Removes an event. It may be held for a moment yet by a process that is being ended.
fn remove_event(tracefs: &Tracefs, group: &str, name: &str, patience: Duration) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match tracefs.command(&format!("-:{group}/{name}\n")) {
            Err(err) if err.raw_os_error() == Some(libc::EBUSY) && waited < patience => {
                sleep(PAUSE);
                waited += PAUSE;
            }
            done => return done,
        }
    }
}

/// Removes all events of a group, and only those; the first failure is told at the end.
pub(super) fn remove_group(tracefs: &Tracefs, group: &str, patience: Duration) -> Result<()> {
    let mut failed = Ok(());
    for (of_group, event) in tracefs.kprobe_groups()? {
        if of_group == group
            && let Err(err) = remove_event(tracefs, group, &event, patience)
        {
            failed = failed.and(Err(err).with_context(|| format!("{group}/{event}")));
        }
    }
    failed
}

/// Removes what processes of this program that are gone have left behind. Never more than an
/// attempt: an event that is in use belongs to somebody we cannot see, in another container.
pub(super) fn remove_stale(tracefs: &Tracefs) {
    let mut groups: Vec<_> = match tracefs.kprobe_groups() {
        Ok(events) => events.into_iter().map(|(group, _)| group).collect(),
        Err(err) => return log::warn!("what others left behind cannot be seen: {err:#}"),
    };
    groups.dedup();
    for group in groups {
        let Some(owner) = group.strip_prefix(GROUP_PREFIX) else { continue };
        if !is_running(owner) {
            match remove_group(tracefs, &group, Duration::ZERO) {
                Ok(()) => log::info!("removed {group}, which a killed process left behind"),
                Err(err) => log::info!("left alone, for it is in use: {err:#}"),
            }
        }
    }
}

/// The group that this process makes its kprobe events in. A pid is used again; with the time of
/// its start, it is not.
pub(super) fn own_group() -> String {
    format!("{GROUP_PREFIX}{}", own_id())
}

/// This process, and no other of any pid namespace or time.
fn own_id() -> String {
    let pid = std::process::id();
    format!("{pid}_{}", start_time(pid).unwrap_or(0))
}

/// Whether the owner of a group, `PID_STARTTIME`, runs. What is not of that form is not ours to
/// judge.
fn is_running(owner: &str) -> bool {
    let parsed = owner
        .split_once('_')
        .and_then(|(pid, start)| Some((pid.parse::<u32>().ok()?, start.parse::<u64>().ok()?)));
    parsed.is_none_or(|(pid, start)| start_time(pid) == Some(start))
}

/// When a process was started, in clock ticks after boot; proc_pid_stat(5), field 22.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}
