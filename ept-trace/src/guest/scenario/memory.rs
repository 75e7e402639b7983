//! Pages of 4 KiB in random order: read, written and executed by all vCPUs at once.

use anyhow::Result;

use super::machine::{BASE, Machine};
use super::step::{PAGE, Step, Writer, mark};
use super::{Case, Host};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![host.case("4 KiB pages", pages)]
}

fn pages(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let pages = host.amount(224);
    let arena = machine.add_arena(BASE, Memory::small_pages(pages * PAGE)?)?;
    // The others are not there yet: a read finds zeros, and the first write is a copy on write.
    let is_marked: Vec<_> = (0..pages).map(|_| random.below(2) == 0).collect();
    let marked = |page: u64| usize::try_from(page).is_ok_and(|page| is_marked[page]);
    for page in (0..pages).filter(|page| marked(*page)) {
        arena.put_mark(&machine.vm, page);
    }

    // In the same order, so that they fault on the same pages at the same time.
    let order = random.shuffled(pages);
    let found = |page| if marked(page) { arena.mark(page) } else { 0 };
    let read = |page: &u64| Step::read(arena.page(*page), found(*page));
    machine.run(|_| order.iter().map(read).collect())?;
    let left = |page, id| mark(arena.word(page, id), Writer::Vcpu(id, 0));
    let write = |page, id| Step::write(arena.word(page, id), left(page, id));
    machine.run(|id| order.iter().map(|page| write(*page, id)).collect())?;
    // And now each in its own: what its neighbour left, and the code.
    let vcpus = machine.vcpus().len();
    machine.run(|id| {
        let steps = |page| {
            let by = (id + 1) % vcpus;
            let code = || Step::Execute(arena.code(page), vec![arena.mark(page)]);
            let read = Step::read(arena.word(page, by), left(page, by));
            [Some(read), marked(page).then(code)]
        };
        random.shuffled(pages).into_iter().flat_map(steps).flatten().collect()
    })?;
    for page in 0..pages {
        arena.expect(&machine.vm, arena.page(page), found(page))?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id))?;
        }
    }
    Ok(())
}
