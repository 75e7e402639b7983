//! Pages of 2 MiB and 1 GiB: used, split under the running guest, and put together again.

use std::fs;
use std::io;

use anyhow::{Context as _, Result, bail};

use super::machine::{Arena, BASE, Machine};
use super::step::{PAGE, Step, Target, Writer, mark};
use super::{Case, Host, Skip};
use crate::guest::long_mode::LARGE_PAGE;
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Vm;

/// MADV_COLLAPSE, from Linux 6.1 on.
const MADV_COLLAPSE: libc::c_int = 25;
/// Pages of 4 KiB in one of 2 MiB.
const SMALL: u64 = LARGE_PAGE / PAGE;
/// How many of them the guest uses, of each page of 2 MiB.
const USED: u64 = 96;
/// How many of them the host discards, of each.
const DISCARDED: u64 = 8;

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    vec![
        host.case("2 MiB, transparent", split),
        host.case("2 MiB, collapsed", collapsed),
        host.case("2 MiB, hugetlb", |host, random| hugetlb(host, random, 21)),
        host.case("1 GiB, hugetlb", |host, random| hugetlb(host, random, 30)),
    ]
}

/// Memory in transparent huge pages, each page of it marked.
fn transparent(machine: &mut Machine<'_>, count: u64) -> Result<Arena> {
    let size = count * LARGE_PAGE;
    let memory = Memory::aligned(size, LARGE_PAGE)?;
    if let Err(err) = memory.advise(0, size, libc::MADV_HUGEPAGE) {
        bail!(Skip(format!("no transparent huge pages here: {err}")));
    }
    let arena = machine.add_arena(BASE, memory)?;
    (0..arena.pages()).for_each(|page| arena.put_mark(&machine.vm, page));
    let memory = machine.vm.memory(arena.slot.memory);
    if !is_huge(memory)? {
        // Where they are not made by themselves, they may be made when asked for.
        let _ = memory.advise(0, size, MADV_COLLAPSE);
        if !is_huge(memory)? {
            let path = "/sys/kernel/mm/transparent_hugepage/enabled";
            let enabled = fs::read_to_string(path).unwrap_or_default();
            bail!(Skip(format!("the kernel gave no huge page ({path}: {})", enabled.trim())));
        }
    }
    Ok(arena)
}

/// Whether any of it is in huge pages just now.
fn is_huge(memory: &Memory) -> Result<bool> {
    let smaps = fs::read_to_string("/proc/self/smaps").context("/proc/self/smaps")?;
    Ok(huge_kib(&smaps, memory.address()).is_some_and(|kib| kib > 0))
}

/// AnonHugePages in KiB of the mapping of this address, in the text of /proc/PID/smaps.
fn huge_kib(smaps: &str, address: u64) -> Option<u64> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let contains = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((number(start)?..number(end)?).contains(&address))
    };
    let mut lines = smaps.lines().skip_while(|line| contains(line) != Some(true));
    let value = lines.find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// Some pages of each page of 2 MiB, in random order over all of them.
fn some(random: &mut SplitMix64, arena: Arena) -> Vec<u64> {
    let huge = arena.pages() / SMALL;
    let mut pages = Vec::new();
    for number in 0..huge {
        pages.extend(
            random.shuffled(SMALL).iter().take(as_usize(USED)).map(|page| number * SMALL + page),
        );
    }
    let order = random.shuffled(pages.len() as u64);
    order.iter().filter_map(|place| pages.get(usize::try_from(*place).ok()?).copied()).collect()
}

/// What a vCPU finds in its word: what it wrote, or zeros if the page was discarded since. Where KVM
/// emulates the write, it exits if the memory may not be written just then.
fn own(arena: Arena, page: u64, id: usize) -> [Step; 2] {
    let gpa = arena.word(page, id);
    let value = mark(gpa, Writer::Vcpu(id, 0));
    [Step::Write(gpa, value, Target::Either), Step::Read(gpa, vec![value, 0])]
}

/// The host discards single pages, and takes the right to write to others away for a while.
fn split(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let arena = transparent(&mut machine, host.amount(2))?;
    let used = some(&mut random, arena);
    let steps =
        |page: &u64| [arena.page(*page), arena.code(*page)].map(|gpa| (gpa, arena.mark(*page)));
    machine.run(|_| {
        let steps = |page| {
            let [read, code] = steps(page);
            [Step::read(read.0, read.1), Step::Execute(code.0, vec![code.1])]
        };
        used.iter().flat_map(steps).collect()
    })?;

    let huge = arena.pages() / SMALL;
    let discarded: Vec<_> = used.iter().copied().take(as_usize(DISCARDED * huge)).collect();
    // Each action between two pauses of the first vCPU, which then looks at the page and at some
    // that share its page of 2 MiB.
    let other_mark = |page| mark(arena.page(page), Writer::OtherHost);
    let near = as_usize(USED) / as_usize(DISCARDED);
    let steps = |id| {
        let mut steps = Vec::new();
        for (number, page) in discarded.iter().enumerate() {
            let neighbours = used.iter().cycle().skip(number * near).take(near);
            if id > 0 {
                steps.extend(neighbours.flat_map(|page| own(arena, *page, id)));
                continue;
            }
            steps.push(Step::Pause);
            steps.push(Step::read(arena.page(*page), other_mark(*page)));
            for page in neighbours {
                let is_gone = discarded[..=number].contains(page);
                let expected = if is_gone { other_mark(*page) } else { arena.mark(*page) };
                steps.push(Step::read(arena.page(*page), expected));
            }
        }
        steps
    };
    let mut next = discarded.iter();
    machine.run_and(steps, |vm| {
        let Some(page) = next.next() else { bail!("a pause too many") };
        let memory = vm.memory(arena.slot.memory);
        discard(arena, vm, *page)?;
        memory.set_word(page * PAGE, other_mark(*page));
        // Read-only for a moment: another one, for the page is split from its neighbours.
        let at = (page ^ 1) * PAGE;
        memory.set_writable(at, PAGE, false).context("mprotect")?;
        memory.set_writable(at, PAGE, true).context("mprotect")
    })?;
    at_rest(&mut machine, arena, &used, |page| {
        if discarded.contains(&page) { other_mark(page) } else { arena.mark(page) }
    })
}

/// Split pages are put together again under the guest.
fn collapsed(host: &Host<'_>, mut random: SplitMix64) -> Result<()> {
    let mut machine = Machine::new(host)?;
    let arena = transparent(&mut machine, host.amount(2))?;
    let used = some(&mut random, arena);
    let huge = arena.pages() / SMALL;
    for page in used.iter().take(as_usize(DISCARDED * huge)) {
        discard(arena, &machine.vm, *page)?;
        arena.put_mark(&machine.vm, *page);
    }
    let steps = |id| {
        let read = |page: &u64| Step::read(arena.page(*page), arena.mark(*page));
        let own = |page: &u64| own(arena, *page, id);
        let mut steps: Vec<_> = used.iter().map(read).collect();
        steps.extend((id == 0).then_some(Step::Pause));
        steps.extend(used.iter().map(read).chain(used.iter().flat_map(own)));
        steps
    };
    machine.run_and(steps, |vm| {
        let memory = vm.memory(arena.slot.memory);
        match memory.advise(0, arena.slot.size, MADV_COLLAPSE) {
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
                bail!(Skip("this kernel has no MADV_COLLAPSE".to_owned()))
            }
            Err(err) if is_for_now(&err) => bail!(Skip(format!("MADV_COLLAPSE: {err}"))),
            done => done.context("MADV_COLLAPSE"),
        }
    })?;
    at_rest(&mut machine, arena, &used, |page| arena.mark(page))
}

/// Whether the kernel could not collapse pages just then: no huge page is free, or one is in use.
fn is_for_now(err: &io::Error) -> bool {
    [libc::EAGAIN, libc::EBUSY, libc::ENOMEM].map(Some).contains(&err.raw_os_error())
}

fn discard(arena: Arena, vm: &Vm, page: u64) -> Result<()> {
    let memory = vm.memory(arena.slot.memory);
    memory.advise(page * PAGE, PAGE, libc::MADV_DONTNEED).context("MADV_DONTNEED")
}

/// Pages that were set aside, protected as a whole and given back.
fn hugetlb(host: &Host<'_>, mut random: SplitMix64, page_bits: u32) -> Result<()> {
    let size = 1 << page_bits;
    let memory = match Memory::hugetlb(size, page_bits) {
        Ok(memory) => memory,
        Err(err) => bail!(Skip(format!("no free page of {} MiB in hugetlb: {err}", size >> 20))),
    };
    let mut machine = Machine::new(host)?;
    // Of 1 GiB, so much as the guest's own page tables have room for.
    let shown = size.min(64 * LARGE_PAGE);
    let arena = machine.add_part(BASE, memory, shown)?;
    let count = host.amount(128).min(shown / PAGE);
    let used: Vec<_> = random.shuffled(shown / PAGE).into_iter().take(as_usize(count)).collect();
    for page in &used {
        arena.put_mark(&machine.vm, *page);
    }
    let read = |page: &u64| Step::read(arena.page(*page), arena.mark(*page));
    machine.run(|_| used.iter().map(read).collect())?;
    let steps = |id| {
        if id > 0 {
            return used.iter().flat_map(|page| own(arena, *page, id)).collect();
        }
        let (first, second) = used.split_at(used.len() / 2);
        let mut steps = vec![Step::Pause];
        steps.extend(first.iter().map(read));
        steps.push(Step::Pause);
        steps.extend(second.iter().map(read));
        steps
    };
    let mut is_writable = true;
    machine.run_and(steps, |vm| {
        is_writable = !is_writable;
        let memory = vm.memory(arena.slot.memory);
        memory.set_writable(0, size, is_writable).context("mprotect")
    })?;
    at_rest(&mut machine, arena, &used, |page| arena.mark(page))
}

/// Has every vCPU write to all used pages, while the host does nothing: then all marks are in
/// place.
fn at_rest(
    machine: &mut Machine<'_>,
    arena: Arena,
    used: &[u64],
    found: impl Fn(u64) -> u64,
) -> Result<()> {
    machine.run(|id| {
        let steps = |page: &u64| {
            let gpa = arena.word(*page, id);
            let read = Step::read(arena.page(*page), found(*page));
            [read, Step::write(gpa, mark(gpa, Writer::Vcpu(id, 1)))]
        };
        used.iter().flat_map(steps).collect()
    })?;
    for page in used {
        arena.expect(&machine.vm, arena.page(*page), found(*page))?;
        for id in machine.vcpus() {
            let gpa = arena.word(*page, id);
            arena.expect(&machine.vm, gpa, mark(gpa, Writer::Vcpu(id, 1)))?;
        }
    }
    Ok(())
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::huge_kib;

    #[test]
    fn huge_pages_are_those_of_the_mapping_itself() {
        // /proc/self/smaps of Linux 6.12, shortened.
        let smaps = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
AnonHugePages:      4096 kB
VmFlags: rd wr mr mw me ac sd hg 
7f0000400000-7f0000500000 r--p 00000000 00:00 0                          [vvar]
Size:               1024 kB
AnonHugePages:         0 kB
";
        assert_eq!(huge_kib(smaps, 0x7f0000200000), Some(4096));
        assert_eq!(huge_kib(smaps, 0x7f0000400000), Some(0));
        assert_eq!(huge_kib(smaps, 0x7f0000500000), None);
        assert_eq!(huge_kib("", 0), None);
    }
}
