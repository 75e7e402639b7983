//! VMs that come and go, several at once: KVM decides again and again, roots are made and freed, and
//! the addresses of VMs and vCPUs are used anew.

use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, Result, bail};

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Writer, mark};
use super::{Case, Host};
use crate::guest::Cpuid;
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::{Slot, Vm};

/// Most pages that a VM uses.
const PAGES: u64 = 16;
/// Most CPUIDs that are set before a VM runs.
const CPUIDS: u64 = 3;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("VMs that come and go", several)]
}

/// As many lines of VMs as a VM has vCPUs, and two at the least.
fn several(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let lines = host.settings.vcpus.max(2);
    let seeds: Vec<_> = (0..lines).map(|_| SplitMix64(random.next())).collect();
    let vms: u64 = thread::scope(|scope| {
        let start = |seed| scope.spawn(move || lives(host, seed));
        let threads: Vec<_> = seeds.into_iter().map(start).collect();
        threads.into_iter().map(joined).sum::<Result<_>>()
    })?;
    log::info!("churn: {vms} VMs in {lines} threads");
    Ok(())
}

/// What came of a thread.
pub(super) fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("its thread panicked"))
}

/// One VM after the other until the time is up; how many.
pub(super) fn lives(host: &Host<'_>, mut random: SplitMix64) -> Result<u64> {
    host.until_time_is_up(|number| live(host, &mut random).with_context(|| format!("VM {number}")))
}

/// One VM, from its creation to its end.
fn live(host: &Host<'_>, random: &mut SplitMix64) -> Result<()> {
    let cpuids: Vec<_> = (0..=random.below(CPUIDS)).map(|number| cpuid(random, number)).collect();
    let vcpus = 1 + random.below(host.settings.vcpus as u64);
    let vm = Vm::new(host.kvm)?;
    let mut machine = Machine::with_cpuids(host, vm, usize::try_from(vcpus)?, &cpuids)?;
    let pages = 1 + random.below(PAGES);
    let arena = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    (0..pages).for_each(|page| arena.put_mark(&machine.vm, page));

    use_all(&mut machine, arena, random, 0)?;
    machine.vm.set_slot(Slot { size: 0, ..arena.slot })?;
    machine.run(|_| (0..pages).map(|page| Step::read_hole(arena.page(page))).collect())?;
    machine.vm.set_slot(arena.slot)?;
    machine.set_cpuid(cpuid(random, cpuids.len() as u64))?;
    use_all(&mut machine, arena, random, 1)
}

/// Every vCPU reads the host's mark in each page and leaves its own.
fn use_all(
    machine: &mut Machine<'_>,
    arena: Arena,
    random: &mut SplitMix64,
    round: u32,
) -> Result<()> {
    let left = |page, id| mark(arena.word(page, id), Writer::Vcpu(id, round));
    machine.run(|id| {
        let steps = |page| {
            let read = Step::read(arena.page(page), arena.mark(page));
            [read, Step::write(arena.word(page, id), left(page, id))]
        };
        random.shuffled(arena.pages()).into_iter().flat_map(steps).collect()
    })?;
    for page in 0..arena.pages() {
        arena.expect(&machine.vm, arena.page(page), arena.mark(page))?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id))?;
        }
    }
    Ok(())
}

/// MAXPHYADDR above 48 and not above, in turns: by it KVM takes 5 levels or 4.
fn cpuid(random: &mut SplitMix64, number: u64) -> Cpuid {
    let (above, below) = ([49, 50, 51, 52], [36, 39, 40, 48]);
    let widths = if number.is_multiple_of(2) { above } else { below };
    Cpuid::of(widths[usize::try_from(random.below(4)).unwrap_or_default()])
}
