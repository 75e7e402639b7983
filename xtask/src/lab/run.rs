//! Boots one cell, follows it to its end, and says what came of it.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::cell::{Cell, Cpu};
use super::console::{Channel, Event, Tail, crash_line, hint};
use super::emulator::{self, Emulator, Machine};
use super::initramfs;
use super::poke::Poke;
use crate::command;
use crate::setup::{Setup, bochs};

/// How long a cell may take unless told otherwise, in seconds.
pub const DEFAULT_TIMEOUT: u64 = 300;
/// How often the files that the emulator writes are looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of the console a failure shows.
const CONSOLE_LINES: usize = 30;
/// How long a dying kernel may go on to print its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What to do in a cell.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command, word by word.
    pub command: Vec<String>,
    /// A static `ept-trace`, to be found in the guest's `PATH`.
    pub product: Option<PathBuf>,
    /// Files to be found in the guest's `/add`.
    pub add: Vec<PathBuf>,
    /// More of them, made for this run: name and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Load KVM before the command.
    pub load_kvm: bool,
    /// CPUs of the guest, on QEMU.
    pub smp: u32,
    /// Let the command poke the kernel's memory.
    pub pokes: bool,
    /// Where the files of the guest's `/out` go.
    pub out: Option<PathBuf>,
    /// Copy the command's output to stdout as it comes.
    pub stream: bool,
}

impl Options {
    /// The usual: `command` with KVM loaded and `product` at hand.
    pub fn new(command: &[&str], product: PathBuf) -> Self {
        Self {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            product: Some(product),
            add: Vec::new(),
            files: Vec::new(),
            timeout: Duration::from_secs(DEFAULT_TIMEOUT),
            load_kvm: true,
            smp: 1,
            pokes: false,
            out: None,
            stream: false,
        }
    }
}

/// What came of a command that ran to its end.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code.
    pub exit_code: i32,
    /// What it printed on stdout and stderr.
    pub output: Vec<u8>,
    /// The directory with the files that it left in `/out`, if it left any and they were wanted.
    pub out_files: Option<PathBuf>,
    /// From the emulator's start to the command's.
    pub boot_time: Duration,
    /// From the emulator's start to the command's end.
    pub total_time: Duration,
    /// The kernel's `uname -r`.
    pub release: String,
}

/// A run that did not come to its end: what an error of [`run`] has as its context.
#[derive(Debug)]
pub struct Unfinished {
    /// What the command printed up to then.
    pub output: Vec<u8>,
    /// The cell, and the directory that is kept for a closer look.
    place: String,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lab cell {}", self.place)
    }
}

/// Boots `cell` and runs the command in it. A kernel that crashes or hangs is an error, with
/// [`Unfinished`] as its context.
pub fn run(cell: &Cell, options: &Options) -> Result<Outcome> {
    let setup = Setup::within_another_verb()?;
    let kernel = cell.kernel.ensure(&setup)?;
    let bochs = match cell.cpu {
        Cpu::Vmx | Cpu::Vmx5 => Some(bochs::ensure(&setup)?),
        Cpu::Svm | Cpu::SvmLa48 => None,
    };
    let nonce = nonce();
    let dir = setup.cache.path("run").join(format!("{}-{nonce}", cell.file_name()));
    let initramfs = initramfs::build(cell, &kernel, options, &nonce)?;
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(dir.join(emulator::INITRAMFS), initramfs))
        .with_context(|| format!("cannot write to {}", dir.display()))?;
    let pokes = options.pokes.then_some(nonce.as_str());
    let machine = Machine { smp: options.smp, pokes };
    let emulator = Emulator::start(cell.cpu, bochs.as_deref(), &kernel.image, machine, &dir)?;
    let mut follower = Follower::new(emulator, cell.cpu, &dir, &nonce, options);
    let outcome = follower.follow().with_context(|| Unfinished {
        output: mem::take(&mut follower.output),
        place: format!("{} (see {})", cell.file_name(), dir.display()),
    })?;
    // The emulator ends before its files go.
    drop(follower);
    let _ = fs::remove_dir_all(&dir);
    Ok(outcome)
}

/// Tells this run's markers from anything that a command could print by chance.
fn nonce() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", process::id(), now.as_nanos())
}

/// Follows a running cell.
struct Follower<'a> {
    emulator: Emulator,
    cpu: Cpu,
    options: &'a Options,
    started: Instant,
    console: Tail,
    console_text: Vec<u8>,
    dir: &'a Path,
    channel: Tail,
    parser: Channel,
    begin: Option<(Duration, String)>,
    output: Vec<u8>,
}

impl<'a> Follower<'a> {
    fn new(emulator: Emulator, cpu: Cpu, dir: &'a Path, nonce: &str, options: &'a Options) -> Self {
        Self {
            emulator,
            cpu,
            options,
            started: Instant::now(),
            console: Tail::new(dir.join(emulator::CONSOLE)),
            console_text: Vec::new(),
            dir,
            channel: Tail::new(dir.join(emulator::CHANNEL)),
            parser: Channel::new(nonce),
            begin: None,
            output: Vec::new(),
        }
    }

    fn follow(&mut self) -> Result<Outcome> {
        loop {
            // Before the files, so that nothing written before the end is missed.
            let ended = self.emulator.ended()?;
            self.console_text.extend(self.console.read()?);
            if let Some(line) = crash_line(&self.console_text) {
                return self.crashed(line);
            }
            if let Some((code, files)) = self.read_channel()? {
                return self.finished(code, &files);
            }
            if let Some(status) = ended {
                let log =
                    command::last_lines(&fs::read(self.dir.join(emulator::LOG))?, CONSOLE_LINES);
                bail!("the emulator ended early ({status}):\n{log}\n{}", self.last_lines());
            }
            if self.started.elapsed() > self.options.timeout {
                let seconds = self.options.timeout.as_secs();
                bail!("hang: no end within {seconds} s (--timeout)\n{}", self.last_lines());
            }
            thread::sleep(POLL);
        }
    }

    /// Takes in what the command printed; its exit code and files once it is over.
    fn read_channel(&mut self) -> Result<Option<(i32, Vec<u8>)>> {
        for event in self.parser.feed(&self.channel.read()?) {
            match event {
                Event::Begin(release) => {
                    self.begin = Some((self.started.elapsed(), release));
                    emulator::discard_images(self.dir);
                }
                Event::Output(bytes) => {
                    if self.options.stream {
                        let mut stdout = io::stdout().lock();
                        stdout.write_all(&bytes).and_then(|()| stdout.flush())?;
                    }
                    self.output.extend(bytes);
                }
                Event::Poke(_) if self.cpu.is_poked_by_itself() => {}
                Event::Poke(asked) => self.poke(&asked)?,
                Event::End(code, files) => return Ok(Some((code, files))),
            }
        }
        Ok(None)
    }

    /// Changes the kernel's memory as the command asks, and answers it.
    fn poke(&mut self, asked: &str) -> Result<()> {
        let done = asked.parse().and_then(|poke: Poke| poke.apply(self.dir));
        self.emulator.answer(&match done {
            Ok(places) => format!("changed in {places} places"),
            Err(error) => format!("refused: {error:#}").replace('\n', " "),
        })
    }

    fn finished(&mut self, exit_code: i32, files: &[u8]) -> Result<Outcome> {
        let total_time = self.started.elapsed();
        let (boot_time, release) =
            self.begin.take().context("the command ended before it began")?;
        let out_files = match &self.options.out {
            Some(dir) if !files.is_empty() => {
                fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make {}", dir.display()))?;
                command::filter(Command::new("tar").arg("-xzmC").arg(dir), files)?;
                Some(dir.clone())
            }
            _ => None,
        };
        let output = mem::take(&mut self.output);
        Ok(Outcome { exit_code, output, out_files, boot_time, total_time, release })
    }

    fn crashed(&mut self, line: usize) -> Result<Outcome> {
        thread::sleep(LAST_WORDS);
        self.console_text.extend(self.console.read()?);
        self.read_channel()?;
        // The end of a crash is registers; what led to it stands before it.
        let text = String::from_utf8_lossy(&self.console_text);
        let lines = text.lines().skip(line.saturating_sub(CONSOLE_LINES / 2)).take(CONSOLE_LINES);
        let lines: Vec<&str> = lines.map(str::trim_end).collect();
        let (lines, output) = (lines.join("\n"), self.last_output());
        bail!("the kernel crashed\n{output}--- console around it ---\n{lines}{}", self.hint())
    }

    fn last_lines(&self) -> String {
        let console = command::last_lines(&self.console_text, CONSOLE_LINES);
        format!("{}--- end of the console ---\n{console}{}", self.last_output(), self.hint())
    }

    /// What the kernel may lack, if it never came to the command.
    fn hint(&self) -> String {
        let hint = if self.begin.is_none() { hint(&self.console_text) } else { None };
        hint.map(|hint| format!("\n{hint} (xtask/lab/kernel.config has all)")).unwrap_or_default()
    }

    /// The end of what the command printed, unless it has been seen already.
    fn last_output(&self) -> String {
        if self.options.stream || self.output.is_empty() {
            return String::new();
        }
        let output = command::last_lines(&self.output, CONSOLE_LINES);
        format!("--- end of the output ---\n{output}\n")
    }
}
