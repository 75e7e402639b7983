//! Faults, zaps and VMs as fast as the machine can.
//!
//! The vCPUs of one VM fault on the same pages, which the host takes away again and again; meanwhile
//! other VMs come and go.

use std::cell::Cell;
use std::thread;
use std::time::Instant;

use anyhow::Result;

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host, churn, discard};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::{Slot, Vm};

/// How often the host zaps in a round, in either way.
const ZAPS: usize = 4;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("faults, zaps and VMs", storm)]
}

fn storm(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let begin = Instant::now();
    let seed = SplitMix64(random.next());
    let (vms, accesses) = thread::scope(|scope| {
        let others = scope.spawn(move || churn::lives(host, seed));
        let accesses = zapped(host, random);
        (churn::joined(others), accesses)
    });
    let (vms, accesses, seconds) = (vms?, accesses?, begin.elapsed().as_secs_f64());
    log::info!("storm: {accesses} accesses and {vms} VMs in {seconds:.2} s");
    Ok(())
}

/// All vCPUs write and read the same pages, round after round, and the host zaps them; how many
/// accesses. The first vCPU waits for the host, so it knows what it finds; the others do not.
fn zapped(host: &Host<'_>, mut random: SplitMix64) -> Result<u64> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(64);
    let arena = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    let accesses = Cell::new(0);
    // Discarded pages are zeros, and what is left of a slot that is made anew is as it was.
    let mut is_discarded = true;
    host.until_time_is_up(|_| {
        let steps = |id| {
            let mut steps = Vec::new();
            for zap in 0..2 * ZAPS {
                for page in random.shuffled(pages) {
                    let word = arena.word(page, id);
                    let value = mark(word, Writer::Vcpu(id, 0));
                    steps.extend(if id == 0 {
                        let before = if zap % 2 == 0 { 0 } else { value };
                        [Step::read(word, before), Step::write(word, value)]
                    } else {
                        let found = vec![0, value, mark(word, Writer::Answer)];
                        [Step::Write(word, value, Target::Either), Step::Read(word, found)]
                    });
                }
                if id == 0 {
                    steps.push(Step::Pause);
                }
            }
            accesses.set(accesses.get() + steps.len() as u64);
            steps
        };
        machine.run_and(steps, |vm| {
            is_discarded = !is_discarded;
            zap(vm, arena, is_discarded)
        })?;
        Ok(())
    })?;
    Ok(accesses.get())
}

/// The host discards all pages, or deletes the slot and makes it anew.
fn zap(vm: &Vm, arena: Arena, discards: bool) -> Result<()> {
    if discards {
        return discard(vm.memory(arena.slot.memory), 0, arena.slot.size);
    }
    vm.set_slot(Slot { size: 0, ..arena.slot })?;
    vm.set_slot(arena.slot)
}
