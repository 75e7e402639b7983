//! Guests on a thread of their own: one with broken page tables never comes back from KVM_RUN.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::thread::JoinHandleExt as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kvm_ioctls::Kvm;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// What takes a thread out of KVM_RUN.
pub(super) const SIGNAL: libc::c_int = libc::SIGUSR1;
/// How often it is sent: between two calls of KVM_RUN it is without effect.
const AGAIN: Duration = Duration::from_millis(100);
/// How often at the most.
const TIMES: usize = 50;

/// A guest to be run on KVM, or several. Its end shall come soon after the flag is set.
type Job<T> = Box<dyn FnOnce(&Kvm, &AtomicBool) -> T + Send>;

/// Runs guests, one job at a time.
pub struct Runner<T> {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    jobs: Sender<Job<T>>,
    reports: UnboundedReceiver<T>,
}

impl<T: Send + 'static> Runner<T> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the signal cannot be caught.
    pub fn new(kvm: Kvm) -> Result<Self> {
        catch_signal().context("cannot catch SIGUSR1")?;
        let (jobs, ordered) = channel::<Job<T>>();
        let (report, reports) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            ordered.iter().all(|job| report.send(job(&kvm, &is_stopped)).is_ok());
        });
        Ok(Self { thread, stop, jobs, reports })
    }

    /// Begins a job; [`ended`](Self::ended) tells its end.
    ///
    /// # Errors
    ///
    /// If the thread is gone.
    pub fn start(&self, job: impl FnOnce(&Kvm, &AtomicBool) -> T + Send + 'static) -> Result<()> {
        self.stop.store(false, Ordering::Relaxed);
        self.jobs.send(Box::new(job)).ok().context("the guests' thread is gone")
    }

    /// How the job that was started ended.
    ///
    /// # Errors
    ///
    /// If the thread is gone.
    pub async fn ended(&mut self) -> Result<T> {
        self.reports.recv().await.context("the guests' thread is gone")
    }

    /// Ends the job that was started, if it has not ended by itself; whether it could be ended.
    pub async fn interrupt(&mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        for _ in 0..TIMES {
            // SAFETY: the handle is there, so the thread was not joined and its id is its own.
            unsafe { libc::pthread_kill(self.thread.as_pthread_t(), SIGNAL) };
            if timeout(AGAIN, self.reports.recv()).await.is_ok() {
                return true;
            }
        }
        false
    }
}

/// Has the signal do nothing but interrupt.
fn catch_signal() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: all zeros is a `sigaction` without flags, so that system calls are not restarted;
    // the handler touches nothing.
    let result = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, &raw const action, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
