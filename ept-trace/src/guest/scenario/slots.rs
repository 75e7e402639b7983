//! Memslots: what KVM must refuse, and slots that move, go and come back under a running guest.

use anyhow::{Result, bail};
use kvm_bindings::KVM_MEM_READONLY;

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Slot;

/// Where a slot moves to: beyond the 2 MiB of where it was, and not as far into its own.
const ELSEWHERE: u64 = BASE + (16 << 20) + 5 * PAGE;
/// How often.
const TIMES: usize = 3;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![
        host.case("refused", |host, _| refused(host)),
        host.case("moved", moved),
        host.case("deleted and made again", replaced),
    ]
}

/// Overlaps, and changes that a slot does not take. KVM's documentation, 4.35
/// KVM_SET_USER_MEMORY_REGION; `__kvm_set_memory_region` for the numbers.
fn refused(host: &Host<'_>) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let arena = machine.add_arena(BASE, Memory::small_pages(8 * PAGE)?)?;
    (0..8).for_each(|page| arena.put_mark(&machine.vm, page));
    let slot = arena.slot;
    let other = machine.vm.hold(Memory::small_pages(8 * PAGE)?);
    let other = Slot { number: slot.number + 1, memory: other, ..slot };
    let attempts = [
        ("a slot in the place of another", other, libc::EEXIST),
        ("over the end of another", Slot { gpa: BASE + 7 * PAGE, ..other }, libc::EEXIST),
        ("over its beginning", Slot { gpa: BASE - 7 * PAGE, ..other }, libc::EEXIST),
        ("in its midst", Slot { gpa: BASE + PAGE, size: PAGE, ..other }, libc::EEXIST),
        ("over low memory", Slot { gpa: 0, ..other }, libc::EEXIST),
        ("not at a page boundary", Slot { gpa: 2 * BASE + 8, ..other }, libc::EINVAL),
        ("of half a page", Slot { gpa: 2 * BASE, size: PAGE / 2, ..other }, libc::EINVAL),
        ("a slot made smaller", Slot { size: PAGE, ..slot }, libc::EINVAL),
        ("with other memory", Slot { memory: other.memory, ..slot }, libc::EINVAL),
        ("made read-only", Slot { flags: KVM_MEM_READONLY, ..slot }, libc::EINVAL),
    ];
    for (what, slot, errno) in attempts {
        match machine.vm.try_slot(slot) {
            Ok(()) => bail!("{slot}: KVM takes what it should refuse: {what}"),
            Err(err) if err.errno() == errno => {}
            Err(err) => bail!("{slot}: {what} is refused with {err}, not errno {errno}"),
        }
    }
    // And the slot is as it was.
    machine.run(|_| (0..8).map(|page| Step::read(arena.page(page), arena.mark(page))).collect())?;
    Ok(())
}

/// What the guest may find in a place while the slot comes and goes: a mark, or userspace.
fn any(gpa: u64, marks: &[u64]) -> Step {
    Step::Read(gpa, marks.iter().copied().chain([mark(gpa, Writer::Answer)]).collect())
}

/// The vCPU that waits for the host at every change knows what it finds; the others do not.
fn moved(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(32);
    let home = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    (0..pages).for_each(|page| home.put_mark(&machine.vm, page));
    machine.open_window(ELSEWHERE, home.slot.size)?;
    let away = Arena { slot: Slot { gpa: ELSEWHERE, ..home.slot } };

    let steps = |id| {
        let mut steps = Vec::new();
        for time in 0..2 * TIMES {
            let (here, there) = if time % 2 == 0 { (home, away) } else { (away, home) };
            for page in random.shuffled(pages) {
                steps.extend(if id == 0 {
                    let is = Step::read(here.page(page), home.mark(page));
                    [is, Step::read_hole(there.page(page))]
                } else {
                    [here, there].map(|arena| any(arena.page(page), &[home.mark(page)]))
                });
            }
            if id == 0 {
                steps.push(Step::Pause);
            }
        }
        steps
    };
    let mut is_home = true;
    machine.run_and(steps, |vm| {
        is_home = !is_home;
        vm.set_slot(if is_home { home.slot } else { away.slot })
    })?;
    (0..pages).try_for_each(|page| home.expect(&machine.vm, home.page(page), home.mark(page)))
}

/// The slot goes, and comes back with other memory, in turns.
fn replaced(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(32);
    let first = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    let second = machine.vm.hold(Memory::small_pages(pages * PAGE)?);
    let second = Arena { slot: Slot { memory: second, ..first.slot } };
    let gone = Slot { size: 0, ..first.slot };
    let other_mark = |page| mark(first.page(page), Writer::OtherHost);
    for page in 0..pages {
        first.put_mark(&machine.vm, page);
        second.put(&machine.vm, page, other_mark(page));
    }

    // What is in place after each change, and before the first.
    let states: Vec<_> = [Some(first), None, Some(second), None].repeat(TIMES);
    let written = |page, id, time| {
        let gpa = first.word(page, id);
        (gpa, mark(gpa, Writer::Vcpu(id, time)))
    };
    let steps = |id| {
        let mut steps = Vec::new();
        for (time, state) in (0..).zip(&states) {
            let order = random.shuffled(pages);
            for page in order {
                let gpa = first.page(page);
                let (word, value) = written(page, id, time);
                let (read, target) = match state {
                    _ if id > 0 => {
                        (any(gpa, &[first.mark(page), other_mark(page)]), Target::Either)
                    }
                    None => (Step::read_hole(gpa), Target::Userspace),
                    Some(arena) if arena.slot.memory == first.slot.memory => {
                        (Step::read(gpa, first.mark(page)), Target::Memory)
                    }
                    Some(_) => (Step::read(gpa, other_mark(page)), Target::Memory),
                };
                steps.extend([read, Step::Write(word, value, target)]);
            }
            if id == 0 {
                steps.push(Step::Pause);
            }
        }
        steps
    };
    let mut next = states.iter().cycle().skip(1);
    machine.run_and(steps, |vm| {
        vm.set_slot(next.next().copied().flatten().map_or(gone, |arena| arena.slot))
    })?;

    for page in 0..pages {
        first.expect(&machine.vm, first.page(page), first.mark(page))?;
        second.expect(&machine.vm, first.page(page), other_mark(page))?;
        // The last that the first vCPU wrote into each.
        for (back, arena) in [(4, first), (2, second)] {
            let time = u32::try_from(states.len() - back)?;
            let (gpa, value) = written(page, 0, time);
            arena.expect(&machine.vm, gpa, value)?;
        }
    }
    Ok(())
}
