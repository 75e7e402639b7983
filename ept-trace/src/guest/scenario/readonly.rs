//! Read-only memslots: reads succeed, writes exit to userspace and change nothing.

use anyhow::{Result, bail};
use kvm_bindings::KVM_MEM_READONLY;
use kvm_ioctls::Cap;

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host, Skip};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Slot;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("read-only memslot", readonly)]
}

fn readonly(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    if !host.kvm.check_extension(Cap::ReadonlyMem) {
        bail!(Skip("KVM has no read-only memslots (KVM_CAP_READONLY_MEM)".to_owned()));
    }
    let mut machine = Machine::new(host)?;
    let pages = host.amount(128);
    let size = pages * PAGE;
    let memory = machine.vm.hold(Memory::small_pages(size)?);
    let flags = KVM_MEM_READONLY;
    let slot = Slot { number: u32::try_from(memory)?, gpa: BASE, size, memory, flags };
    machine.vm.set_slot(slot)?;
    machine.open_window(BASE, size)?;
    let arena = Arena { slot };
    (0..pages).for_each(|page| arena.put_mark(&machine.vm, page));

    let left = |page, id| mark(arena.word(page, id), Writer::Vcpu(id, 0));
    let write = |page, id, target| Step::Write(arena.word(page, id), left(page, id), target);
    machine.run(|id| {
        let steps = |page| {
            let read = || Step::read(arena.page(page), arena.mark(page));
            let code = Step::Execute(arena.code(page), vec![arena.mark(page)]);
            [read(), write(page, id, Target::Userspace), read(), code]
        };
        random.shuffled(pages).into_iter().flat_map(steps).collect()
    })?;
    for page in 0..pages {
        arena.expect(&machine.vm, arena.page(page), arena.mark(page))?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), 0)?;
        }
    }

    // The same memory, deleted and made again so that it can be written.
    for slot in [Slot { size: 0, ..slot }, Slot { flags: 0, ..slot }] {
        machine.vm.set_slot(slot)?;
    }
    machine.run(|id| {
        let write = |page| write(page, id, Target::Memory);
        random.shuffled(pages).into_iter().map(write).collect()
    })?;
    for page in 0..pages {
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id))?;
        }
    }
    Ok(())
}
