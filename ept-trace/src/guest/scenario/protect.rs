//! What a host does to a guest's memory while the guest runs: it takes the right to write away and
//! gives it back, discards pages, and merges those that are alike.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::machine::{BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host, Skip, discard};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Vm;

/// How often the host does it all.
const TIMES: u32 = 2;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("protected and discarded", protected), host.case("merged", merged)]
}

/// The first vCPU waits for the host, so it knows what it finds; the others write all the time,
/// and wait where they may not.
fn protected(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(64);
    let arena = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    (0..pages).for_each(|page| arena.put_mark(&machine.vm, page));
    let discarded: Vec<_> = (0..TIMES)
        .map(|_| random.shuffled(pages).into_iter().take(16).collect::<Vec<_>>())
        .collect();

    // What the host does at the pauses, one after the other.
    let mut actions = (0..).zip(&discarded).flat_map(|(time, discarded)| {
        [Action::Protect, Action::Unprotect, Action::Discard(discarded, time)]
    });
    let left = |page, id, time| mark(arena.word(page, id), Writer::Vcpu(id, time));
    // A page that was discarded has no mark of the host until it writes it again.
    let found = |page, time| {
        let is_gone = (0..time).any(|time| discarded[time as usize].contains(&page));
        if is_gone { mark(arena.page(page), Writer::OtherHost) } else { arena.mark(page) }
    };
    let steps = |id| {
        let mut steps = Vec::new();
        for time in 0..TIMES {
            let mut order = || random.shuffled(pages).into_iter();
            if id > 0 {
                for page in order().chain(order()) {
                    let (word, value) = (arena.word(page, id), left(page, id, time));
                    let before = time.checked_sub(1).map_or(0, |time| left(page, id, time));
                    // Where KVM emulates the write, without TDP that is, it exits if the memory may
                    // not be written just then (`emulator_read_write_onepage`).
                    steps.push(Step::Write(word, value, Target::Either));
                    steps.push(Step::Read(word, vec![value, before, 0]));
                }
                continue;
            }
            steps.push(Step::Pause);
            let read = |page| Step::read(arena.page(page), found(page, time));
            steps.extend(order().map(read));
            steps.push(Step::Pause);
            let write = |page| Step::write(arena.word(page, id), left(page, id, time));
            steps.extend(order().map(write));
            steps.push(Step::Pause);
            let read = |page| {
                let is_gone = discarded[time as usize].contains(&page);
                let word = if is_gone { 0 } else { left(page, id, time) };
                [
                    Step::read(arena.page(page), found(page, time + 1)),
                    Step::read(arena.word(page, id), word),
                ]
            };
            steps.extend(order().flat_map(read));
        }
        steps
    };
    machine.run_and(steps, |vm| {
        let memory = vm.memory(arena.slot.memory);
        let size = arena.slot.size;
        match actions.next() {
            Some(Action::Protect) => memory.set_writable(0, size, false).context("mprotect"),
            Some(Action::Unprotect) => memory.set_writable(0, size, true).context("mprotect"),
            Some(Action::Discard(pages, time)) => {
                for page in pages {
                    discard(memory, page * PAGE, PAGE)?;
                    memory.set_word(page * PAGE, found(*page, time + 1));
                }
                Ok(())
            }
            None => bail!("a pause too many"),
        }
    })?;

    // At rest, every mark is where it belongs.
    machine.run(|id| {
        let write = |page| Step::write(arena.word(page, id), left(page, id, TIMES));
        random.shuffled(pages).into_iter().map(write).collect()
    })?;
    for page in 0..pages {
        arena.expect(&machine.vm, arena.page(page), found(page, TIMES))?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id, TIMES))?;
        }
    }
    Ok(())
}

/// What the host does.
enum Action<'a> {
    /// It takes the right to write away.
    Protect,
    /// And gives it back.
    Unprotect,
    /// It discards these pages, for the so-many-eth time.
    Discard(&'a [u64], u32),
}

/// Pages that are all alike, until each gets marks of its own.
fn merged(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    if !fs::read_to_string("/sys/kernel/mm/ksm/run").is_ok_and(|run| run.trim() == "1") {
        bail!(Skip("KSM does not run (/sys/kernel/mm/ksm/run)".to_owned()));
    }
    let mut machine = Machine::new(host)?;
    let pages = host.amount(64);
    let arena = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    let alike = mark(arena.slot.gpa, Writer::OtherHost);
    (0..pages).for_each(|page| arena.put(&machine.vm, page, alike));
    let memory = machine.vm.memory(arena.slot.memory);
    memory.advise(0, arena.slot.size, libc::MADV_MERGEABLE).context("MADV_MERGEABLE")?;
    let left = |page, id| mark(arena.word(page, id), Writer::Vcpu(id, 0));
    let wait = |_: &Vm| {
        thread::sleep(Duration::from_millis(100));
        Ok(())
    };
    for round in 0..4 {
        let steps = |id| {
            let mut steps = vec![Step::Pause];
            for page in random.shuffled(pages) {
                steps.push(Step::read(arena.page(page), alike));
                // A part of them, to be split from the others.
                if page % 4 == round {
                    steps.push(Step::write(arena.word(page, id), left(page, id)));
                }
            }
            steps
        };
        machine.run_and(steps, wait)?;
    }
    for page in 0..pages {
        arena.expect(&machine.vm, arena.page(page), alike)?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id))?;
        }
    }
    Ok(())
}
