//! Memory at the edge of what a table maps, and of what can be reached.

use anyhow::{Result, bail};

use super::machine::Machine;
use super::step::{PAGE, Step, Writer, mark};
use super::{Case, Host, Skip};
use crate::guest::memory::Memory;
use crate::guest::random::SplitMix64;
use crate::guest::vm::Vm;

/// Pages on each side of an edge.
const PAGES: u64 = 64;

/// An edge: memory is below a power of two, or from there on, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Across(u8),
    Below(u8),
    At(u8),
    /// Below what MAXPHYADDR allows.
    Last,
}

impl Edge {
    /// 2^39 is where the second entry of a table of level 4 begins, 2^48 that of level 5.
    const ALL: [Self; 6] = [
        Self::Across(39),
        Self::Below(47),
        Self::At(47),
        Self::Below(48),
        Self::At(48),
        Self::Last,
    ];

    fn name(self) -> String {
        match self {
            Self::Across(bits) => format!("across 2^{bits}"),
            Self::Below(bits) => format!("below 2^{bits}"),
            Self::At(bits) => format!("at 2^{bits}"),
            Self::Last => "last pages".to_owned(),
        }
    }

    /// Where so many bytes of memory are, with addresses of so many bits in all; or how many bits
    /// they would need.
    fn place(self, size: u64, bits: u8) -> Result<u64, u8> {
        let (gpa, needed) = match self {
            Self::Across(edge) => ((1 << edge) - size / 2, edge + 1),
            Self::Below(edge) => ((1 << edge) - size, edge),
            Self::At(edge) => (1 << edge, edge + 1),
            Self::Last => ((1 << bits) - size, bits),
        };
        if needed <= bits { Ok(gpa) } else { Err(needed) }
    }
}

pub(super) fn cases(host: &Host<'_>) -> Vec<Case> {
    let case = |edge: Edge| host.case(&edge.name(), |host, random| at(host, random, edge));
    Edge::ALL.map(case).into()
}

fn at(host: &Host<'_>, mut random: SplitMix64, edge: Edge) -> Result<()> {
    let pages = host.amount(PAGES);
    let vm = Vm::new(host.kvm)?;
    let (width, reach) = (vm.maxphyaddr(), &host.settings.reach);
    let (bits, why) = match reach {
        Ok(reach) if *reach < width => (*reach, "KVM's tables reach no further"),
        // Four levels are always there.
        Err(why) if width > 48 => (48, why.as_str()),
        _ => (width, "the CPU has no more"),
    };
    let gpa = match edge.place(pages * PAGE, bits) {
        Ok(gpa) => gpa,
        Err(needed) => {
            bail!(Skip(format!("{needed} bits of address are needed, there are {bits}: {why}")))
        }
    };
    // So that up to 48 bits the guest is one for which KVM may take a root of 4 levels.
    let end = (gpa + pages * PAGE - 1).ilog2() + 1;
    let maxphyaddr = u8::try_from(end)?.max(40).min(width);
    let mut machine = Machine::with_maxphyaddr(host, vm, maxphyaddr)?;
    let arena = machine.add_arena(gpa, Memory::small_pages(pages * PAGE)?)?;
    (0..pages).step_by(2).for_each(|page| arena.put_mark(&machine.vm, page));
    let found = |page: u64| if page.is_multiple_of(2) { arena.mark(page) } else { 0 };
    let left = |page, id| mark(arena.word(page, id), Writer::Vcpu(id, 0));
    machine.run(|id| {
        let steps = |page| {
            let word = arena.word(page, id);
            let read = Step::read(arena.page(page), found(page));
            [read, Step::write(word, left(page, id)), Step::read(word, left(page, id))]
        };
        random.shuffled(pages).into_iter().flat_map(steps).collect()
    })?;
    for page in 0..pages {
        arena.expect(&machine.vm, arena.page(page), found(page))?;
        for id in machine.vcpus() {
            arena.expect(&machine.vm, arena.word(page, id), left(page, id))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_at_its_edge_or_out_of_reach() {
        let place = |edge: Edge, bits| edge.place(0x4000, bits);
        assert_eq!(place(Edge::Across(39), 40), Ok(0x7f_ffff_e000));
        assert_eq!(place(Edge::Across(39), 39), Err(40));
        assert_eq!(place(Edge::Below(47), 47), Ok(0x7fff_ffff_c000));
        assert_eq!(place(Edge::At(47), 48), Ok(0x8000_0000_0000));
        assert_eq!(place(Edge::Below(48), 52), Ok(0xffff_ffff_c000));
        assert_eq!(place(Edge::Last, 40), Ok(0xff_ffff_c000));
        assert_eq!(place(Edge::Below(47), 46), Err(47));
        assert_eq!(place(Edge::At(47), 47), Err(48));
        assert_eq!(place(Edge::At(48), 48), Err(49));
    }
}
