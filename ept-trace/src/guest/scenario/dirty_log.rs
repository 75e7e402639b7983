//! Dirty logging: switched on while the guest writes, read again and again, and switched off.
//!
//! KVM then gives up large pages, and every page that was written must be in the log.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Result, bail};
use kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES;

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Writer, mark};
use super::{Case, Host};
use crate::guest::long_mode::LARGE_PAGE;
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::{Slot, Vm};

/// Pages that a vCPU writes between two pauses.
const BETWEEN: usize = 24;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("dirty logging", dirty_logging)]
}

fn dirty_logging(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let size = host.amount(160).next_multiple_of(LARGE_PAGE / PAGE) * PAGE;
    let memory = Memory::aligned(size, LARGE_PAGE)?;
    // Without transparent huge pages there are none to split, and all else is the same.
    let _ = memory.advise(0, size, libc::MADV_HUGEPAGE);
    let arena = machine.add_arena(BASE, memory)?;
    let logging = Slot { flags: KVM_MEM_LOG_DIRTY_PAGES, ..arena.slot };
    (0..arena.pages()).for_each(|page| arena.put_mark(&machine.vm, page));
    let mut some =
        |count| -> Vec<u64> { random.shuffled(arena.pages()).into_iter().take(count).collect() };
    let written = usize::try_from(host.amount(160))?;
    let write = |id, round, page: &u64| {
        let gpa = arena.word(*page, id);
        Step::write(gpa, mark(gpa, Writer::Vcpu(id, round)))
    };

    // Switched on half-way: what the first vCPU writes from then on is in the log.
    let order = some(written);
    let (before, after) = order.split_at(written / 2);
    let steps = |id| {
        let mut steps: Vec<_> = before.iter().map(|page| write(id, 0, page)).collect();
        steps.extend((id == 0).then_some(Step::Pause));
        steps.extend(after.iter().map(|page| write(id, 0, page)));
        steps
    };
    machine.run_and(steps, |vm| vm.set_slot(logging))?;
    covers(&machine.vm.dirty_log(logging)?, after)?;

    // Read while they write.
    let seen = RefCell::new(vec![0; usize::try_from(arena.pages().div_ceil(64))?]);
    let take = |vm: &Vm| -> Result<()> {
        for (seen, new) in seen.borrow_mut().iter_mut().zip(vm.dirty_log(logging)?) {
            *seen |= new;
        }
        Ok(())
    };
    let all = some(written);
    let steps = |id| {
        let mut steps = Vec::new();
        for pages in all.chunks(BETWEEN) {
            steps.extend(pages.iter().map(|page| write(id, 1, page)));
            steps.push(Step::Pause);
        }
        steps
    };
    machine.run_and(steps, take)?;
    take(&machine.vm)?;
    covers(&seen.borrow(), &all)?;

    // What was logged and read is clean, and is logged when it is written again.
    let again = some(written / 2);
    machine.run(|id| again.iter().map(|page| write(id, 2, page)).collect())?;
    covers(&machine.vm.dirty_log(logging)?, &again)?;

    // Switched off half-way, when large pages may come back.
    let last = some(written);
    let (before, after) = last.split_at(written / 2);
    let steps = |id| {
        let mut steps: Vec<_> = before.iter().map(|page| write(id, 3, page)).collect();
        steps.extend((id == 0).then_some(Step::Pause));
        steps.extend(after.iter().map(|page| write(id, 3, page)));
        steps
    };
    machine.run_and(steps, |vm| vm.set_slot(arena.slot))?;
    machine.run(|_| (0..arena.pages()).map(|page| read(arena, page)).collect())?;

    let rounds = [&order, &all, &again, &last].map(|pages| pages.iter().collect::<BTreeSet<_>>());
    for page in 0..arena.pages() {
        for id in machine.vcpus() {
            let gpa = arena.word(page, id);
            let round = (0..).zip(&rounds).filter(|(_, pages)| pages.contains(&page)).last();
            let left = round.map_or(0, |(round, _)| mark(gpa, Writer::Vcpu(id, round)));
            arena.expect(&machine.vm, gpa, left)?;
        }
    }
    Ok(())
}

fn read(arena: Arena, page: u64) -> Step {
    Step::read(arena.page(page), arena.mark(page))
}

/// Fails if a page that was written is not in the log.
fn covers(log: &[u64], written: &[u64]) -> Result<()> {
    let is_logged = |page: &&u64| {
        let word = usize::try_from(**page / 64).ok().and_then(|word| log.get(word));
        word.is_some_and(|word| word & 1 << (**page % 64) != 0)
    };
    let mut missing = written.iter().filter(|page| !is_logged(page));
    if let Some(page) = missing.next() {
        let (gpa, others) = (BASE + page * PAGE, missing.count());
        bail!(
            "the page at GPA {gpa:#x} was written and is not in the dirty log, nor are {others} others"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_page_that_is_not_in_the_log_is_found() {
        let log = [1 << 63 | 1, 0b10];
        assert!(covers(&log, &[0, 63, 65]).is_ok() && covers(&[], &[]).is_ok());
        for page in [1, 62, 64, 66, 128, 1 << 40] {
            assert!(covers(&log, &[0, page]).is_err(), "{page}");
        }
        let err = covers(&log, &[3, 0, 4]).expect_err("two are missing");
        assert!(err.to_string().contains("0x40003000") && err.to_string().contains("nor are 1"));
    }
}
