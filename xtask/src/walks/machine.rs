//! Boots the program with its cases, and takes in what it answers.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use walker::protocol::{Answer, FAILURE, MAGIC, Machine};

use crate::command;
use crate::lab::Cpu;
use crate::lab::console::Tail;
use crate::lab::emulator::{self, CHANNEL, Emulator, INITRAMFS, LOG};
use crate::setup::{Setup, bochs};

/// How often the file that the emulator writes is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// How the guest ended.
    pub answer: Answer,
    /// The words that were changed, by number, and what they hold.
    pub changed: Vec<(u64, u64)>,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The machine.
    pub cpu: Cpu,
    /// The program.
    pub image: &'a [u8],
    /// How long it may take.
    pub timeout: Duration,
}

/// Has the cases, as the program takes them, answered by the CPU: what it is, and its answers.
pub fn run(setup: &Setup, boot: &Boot<'_>, cases: &[u8]) -> Result<(Machine, Vec<Answered>)> {
    let bochs = match boot.cpu {
        Cpu::Vmx | Cpu::Vmx5 => Some(bochs::ensure(setup)?),
        Cpu::Svm | Cpu::SvmLa48 => None,
    };
    let dir = setup.cache.scratch(&format!("walks-{}", boot.cpu.name()))?;
    let dir = dir.path();
    let image = dir.join("program");
    fs::write(&image, boot.image)
        .and_then(|()| fs::write(dir.join(INITRAMFS), cases))
        .with_context(|| format!("cannot write to {}", dir.display()))?;
    let machine = emulator::Machine { smp: 1, pokes: None };
    let mut emulator = Emulator::start(boot.cpu, bochs.as_deref(), &image, machine, dir)?;
    let started = Instant::now();
    let mut channel = Tail::new(dir.join(CHANNEL));
    let mut bytes = Vec::new();
    loop {
        // Before the file, so that nothing written before the end is missed.
        let ended = emulator.ended()?;
        bytes.extend(channel.read()?);
        if let Some(answers) = parse(&bytes)? {
            return Ok(answers);
        }
        if let Some(status) = ended {
            let log = command::last_lines(&fs::read(dir.join(LOG))?, 20);
            bail!("the emulator ended early ({status}), after {} bytes:\n{log}", bytes.len());
        }
        if started.elapsed() > boot.timeout {
            bail!("no end within {} s, after {} bytes", boot.timeout.as_secs(), bytes.len());
        }
        thread::sleep(POLL);
    }
}

/// What the program has sent, once it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(Machine, Vec<Answered>)>> {
    let (words, rest) = bytes.as_chunks();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    if words.first().is_some_and(|word| ![MAGIC, FAILURE].contains(word)) {
        bail!("what comes is not from the program: {:#x}", words[0]);
    }
    // A failure is told behind whole answers.
    if let Some(at) = words.iter().rposition(|word| *word == FAILURE) {
        thread::sleep(POLL);
        let said = bytes[(at + 1) * 8..].trim_ascii_end();
        bail!("the program failed: {}", String::from_utf8_lossy(said));
    }
    if words.last() != Some(&MAGIC) || words.len() == 1 || !rest.is_empty() {
        return Ok(None);
    }
    let mut words = Words(&words);
    let [_magic] = words.take()?;
    let machine = Machine::from_words(words.take()?);
    let mut answers = Vec::new();
    while words.0 != [MAGIC] {
        let answer = Answer::from_words(words.take()?);
        let changed = (0..answer.changed).map(|_| words.take().map(|[number, now]| (number, now)));
        let changed = changed.collect::<Result<_>>()?;
        answers.push(Answered { answer, changed });
    }
    Ok(Some((machine, answers)))
}

struct Words<'a>(&'a [u64]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u64; N]> {
        let (words, rest) = self.0.split_first_chunk().context("an answer is cut short")?;
        self.0 = rest;
        Ok(*words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn answers_are_taken_in_once_they_are_whole() {
        let words =
            [MAGIC, 1, 40, 1, 4, 0, 0, 48, 0x181, 0x2000, 7, 1, 3, 0x107, 62, 0, 0, 0, 0, MAGIC];
        let bytes = sent(&words);
        for size in 0..bytes.len() {
            assert!(parse(&bytes[..size]).expect("no failure").is_none(), "{size} bytes");
        }
        let (machine, answers) = parse(&bytes).expect("no failure").expect("all of it");
        assert_eq!((machine.vmx, machine.maxphyaddr), (1, 40));
        let [first, second] = answers.as_slice() else { panic!("two answers: {answers:?}") };
        assert_eq!((first.answer.qualification, &first.changed[..]), (0x181, &[(3, 0x107)][..]));
        assert_eq!((second.answer.reason, second.changed.len()), (62, 0));
    }

    #[test]
    fn a_failure_is_told_in_the_programs_words() {
        let bytes = [sent(&[MAGIC, 1, FAILURE]), b"no EPT\n".to_vec()].concat();
        assert!(parse(&bytes).is_err_and(|error| error.to_string().contains("no EPT")));
        assert!(parse(&sent(&[17])).is_err());
    }
}
