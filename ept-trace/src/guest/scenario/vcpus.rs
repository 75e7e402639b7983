//! The vCPUs of a scenario, each on a thread of its own, from the first KVM_RUN to the last HLT.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::program::PAUSE_PORT;
use super::step::{Writer, mark};
use crate::guest::runner::SIGNAL;

/// How often it is looked whether all of it should end, and how often a vCPU is told so: between
/// two calls of KVM_RUN the signal is without effect.
const TICK: Duration = Duration::from_millis(50);
/// How long a vCPU waits for memory that it may not use just now.
const BLOCKED: Duration = Duration::from_millis(1);

/// What a vCPU did until it halted.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// Writes that exited to userspace: GPA and value.
    pub(super) writes: Vec<(u64, u64)>,
    /// How often KVM_RUN failed with EFAULT, as the host had taken memory away.
    pub(super) blocked: u64,
}

/// A vCPU's word to the host.
enum Report {
    /// On this thread.
    Started(libc::pid_t),
    /// It waits until the host lets it go on.
    Paused,
    /// It halted, or it did not.
    Ended(Result<Exits>),
}

/// Runs all vCPUs at once until each halts. At each pause, of whichever vCPU, the host acts, while
/// the other vCPUs run on.
///
/// # Errors
///
/// The first thing that goes wrong, or that `stop` was set; all vCPUs are then taken out of KVM_RUN.
pub(super) fn run(
    vcpus: &mut [VcpuFd],
    stop: &AtomicBool,
    mut act: impl FnMut() -> Result<()>,
) -> Result<Vec<Exits>> {
    let abort = &AtomicBool::new(false);
    let (report, reports) = channel();
    thread::scope(|scope| {
        let mut all: Vec<_> = Vec::new();
        for (id, vcpu) in vcpus.iter_mut().enumerate() {
            let (go, wait) = channel();
            let link = Link { id, report: report.clone(), wait };
            scope.spawn(move || link.run(vcpu, abort));
            all.push(Running { go, thread: None, exits: None });
        }
        drop(report);

        let mut failure = None;
        while all.iter().any(|vcpu| vcpu.exits.is_none()) {
            match reports.recv_timeout(TICK) {
                Ok((id, Report::Started(thread))) => all[id].thread = Some(thread),
                Ok((id, Report::Paused)) => {
                    if failure.is_none() {
                        failure = act().err();
                    }
                    // It is gone only if it ended, which was then reported.
                    let _ = all[id].go.send(());
                }
                Ok((id, Report::Ended(ended))) => {
                    all[id].thread = None;
                    all[id].exits = Some(ended.unwrap_or_else(|err| {
                        failure.get_or_insert(err.context(format!("vCPU {id}")));
                        Exits::default()
                    }));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("a vCPU's thread is gone"),
            }
            if stop.load(Ordering::Relaxed) || failure.is_some() {
                abort.store(true, Ordering::Relaxed);
                all.iter().filter_map(|vcpu| vcpu.thread).for_each(interrupt);
            }
        }
        match failure {
            Some(err) => Err(err),
            None => Ok(all.into_iter().filter_map(|vcpu| vcpu.exits).collect()),
        }
    })
}

/// The host's end of a vCPU.
struct Running {
    go: Sender<()>,
    /// Its thread, as long as it runs.
    thread: Option<libc::pid_t>,
    exits: Option<Exits>,
}

/// A vCPU's end.
struct Link {
    id: usize,
    report: Sender<(usize, Report)>,
    wait: Receiver<()>,
}

impl Link {
    fn run(self, vcpu: &mut VcpuFd, abort: &AtomicBool) {
        // SAFETY: it takes nothing and cannot fail.
        self.tell(Report::Started(unsafe { libc::gettid() }));
        let ended = self.run_to_halt(vcpu, abort);
        self.tell(Report::Ended(ended));
    }

    /// The host is gone only after all vCPUs.
    fn tell(&self, report: Report) {
        let _ = self.report.send((self.id, report));
    }

    fn run_to_halt(&self, vcpu: &mut VcpuFd, abort: &AtomicBool) -> Result<Exits> {
        let mut exits = Exits::default();
        while !abort.load(Ordering::Relaxed) {
            match vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(exits),
                Ok(VcpuExit::IoOut(PAUSE_PORT, _)) => {
                    self.tell(Report::Paused);
                    self.wait.recv().context("the host is gone")?;
                }
                Ok(VcpuExit::MmioRead(gpa, data)) => {
                    let answer = mark(gpa & !7, Writer::Answer).to_le_bytes();
                    let from = usize::try_from(gpa % 8)?;
                    let Some(answer) = answer.get(from..from + data.len()) else {
                        bail!("{} bytes at GPA {gpa:#x} are read in one exit", data.len());
                    };
                    data.copy_from_slice(answer);
                }
                Ok(VcpuExit::MmioWrite(gpa, data)) => {
                    let Ok(word) = data.try_into() else {
                        bail!("{} bytes at GPA {gpa:#x} are written, not 8", data.len());
                    };
                    exits.writes.push((gpa, u64::from_le_bytes(word)));
                }
                // From 6.8 on with an exit reason of its own.
                Ok(VcpuExit::MemoryFault { .. }) => wait(&mut exits),
                Err(err) if err.errno() == libc::EFAULT => wait(&mut exits),
                Err(err) if [libc::EINTR, libc::EAGAIN].contains(&err.errno()) => {}
                Ok(exit) => bail!("exits with {exit:?}"),
                Err(err) => return Err(err).context("KVM_RUN"),
            }
        }
        bail!("is taken out of KVM_RUN")
    }
}

/// The host gives the memory back soon; otherwise all of it is given up in time.
fn wait(exits: &mut Exits) {
    exits.blocked += 1;
    thread::sleep(BLOCKED);
}

/// Takes a thread of this process out of KVM_RUN.
fn interrupt(thread: libc::pid_t) {
    // SAFETY: the signal is caught, and where the thread is gone the call fails.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
}
