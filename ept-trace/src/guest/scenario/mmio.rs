//! Addresses without a memslot: every access exits to userspace, however often, and up to the edge.
//!
//! KVM keeps such addresses as SPTEs that misconfigure EPT on purpose. A memslot that comes or goes
//! makes those of before worthless.

use anyhow::Result;

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Slot;

/// Pages of memory before the hole, and after it.
const BESIDE: u64 = 16;
/// How often a vCPU uses each page of the hole in a round.
const TIMES: u32 = 2;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("hole", hole)]
}

fn hole(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(24);
    let hole = BASE + BESIDE * PAGE;
    let end = hole + pages * PAGE;
    let beside = || Memory::small_pages(BESIDE * PAGE);
    // One window for all of it, so that an access can cross an edge.
    machine.open_window(BASE, end + BESIDE * PAGE - BASE)?;
    let before = machine.add_arena(BASE, beside()?)?;
    let after = machine.add_arena(end, beside()?)?;
    let last = hole - 8;
    let words = [(before, last), (after, end)];
    for (arena, gpa) in words {
        machine.vm.memory(arena.slot.memory).set_word(gpa - arena.slot.gpa, host_mark(gpa));
    }
    let memory = machine.vm.hold(Memory::small_pages(pages * PAGE)?);
    let number = u32::try_from(memory)?;
    let filled = Arena { slot: Slot { number, gpa: hole, size: pages * PAGE, memory, flags: 0 } };
    (0..pages).for_each(|page| filled.put_mark(&machine.vm, page));

    let mut exits = |machine: &mut Machine<'_>, round| {
        machine.run(|id| {
            let mut steps = edges(last, end, pages);
            for _ in 0..TIMES {
                for page in random.shuffled(pages) {
                    let gpa = filled.word(page, id);
                    let value = mark(gpa, Writer::Vcpu(id, round));
                    steps.push(Step::read_hole(gpa));
                    steps.push(Step::Write(gpa, value, Target::Userspace));
                }
            }
            steps
        })
    };
    exits(&mut machine, 0)?;
    // A memslot elsewhere.
    machine.add_arena(2 * BASE, beside()?)?;
    exits(&mut machine, 1)?;
    // A memslot just there, and gone again.
    machine.vm.set_slot(filled.slot)?;
    machine.run(|id| {
        let read = |page| Step::read(filled.page(page), filled.mark(page));
        let write = |page| {
            let gpa = filled.word(page, id);
            Step::write(gpa, mark(gpa, Writer::Vcpu(id, 2)))
        };
        (0..pages).flat_map(|page| [read(page), write(page)]).collect()
    })?;
    let gone = Slot { size: 0, ..filled.slot };
    machine.vm.set_slot(gone)?;
    exits(&mut machine, 3)?;

    for page in 0..pages {
        for id in machine.vcpus() {
            let gpa = filled.word(page, id);
            filled.expect(&machine.vm, gpa, mark(gpa, Writer::Vcpu(id, 2)))?;
        }
    }
    words.into_iter().try_for_each(|(arena, gpa)| arena.expect(&machine.vm, gpa, host_mark(gpa)))
}

fn host_mark(gpa: u64) -> u64 {
    mark(gpa, Writer::Host)
}

/// Reads of the last word of memory, of the first and the last of the hole, of the first word of
/// memory, and across both edges.
fn edges(last: u64, end: u64, pages: u64) -> Vec<Step> {
    let answer = |gpa| mark(gpa, Writer::Answer);
    let across = |low: u64, high: u64| low >> 32 | high << 32;
    let first = end - pages * PAGE;
    vec![
        Step::read(last, host_mark(last)),
        Step::read_hole(first),
        Step::read(last + 4, across(host_mark(last), answer(first))),
        Step::read_hole(end - 8),
        Step::read(end, host_mark(end)),
        Step::read(end - 4, across(answer(end - 8), host_mark(end))),
    ]
}
