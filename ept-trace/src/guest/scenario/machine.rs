//! The guest of a scenario: its vCPUs, its memory, and where its virtual addresses lead.

use anyhow::{Context as _, Result, bail};
use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;

use super::Host;
use super::program::{self, COMMAND, Code, VALUE, put_executable};
use super::step::{PAGE, Step, Writer, mark, verify};
use super::vcpus::{self, Exits};
use crate::guest::Cpuid;
use crate::guest::long_mode::{LARGE_PAGE, Tables};
use crate::guest::memory::Memory;
use crate::guest::vm::{Slot, Vm};

/// Where the program is, a GPA as all that follow.
const CODE: u64 = 0x1000;
const TABLES: u64 = 0x2000;
/// Where the lists of commands begin, each vCPU with its own.
const LISTS: u64 = LARGE_PAGE;
/// The end of low memory, and with it of the lists; the virtual addresses of other memory begin.
const LOW: u64 = 32 * LARGE_PAGE;
/// The end of virtual addresses: one page directory maps so much.
const END: u64 = 512 * LARGE_PAGE;

/// Where scenarios have their memory, unless the place matters.
pub(super) const BASE: u64 = 1 << 30;
/// Where in a page code is that returns the page's mark; at its start the mark itself is.
const EXECUTABLE: u64 = 16;
/// Where in a page the word of the first vCPU is.
const VCPU_WORDS: u64 = 256;

/// The guest.
pub(super) struct Machine<'a> {
    // Dropped in this order: the vCPUs before the VM.
    vcpus: Vec<VcpuFd>,
    /// The VM.
    pub(super) vm: Vm,
    low: usize,
    tables: Tables,
    windows: Vec<Window>,
    host: &'a Host<'a>,
}

/// Where a range of GPAs is among the virtual addresses, both from a multiple of 2 MiB.
#[derive(Clone, Copy, Debug)]
struct Window {
    gpa: u64,
    size: u64,
    address: u64,
}

/// Memory of a scenario, in a slot of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arena {
    /// The slot.
    pub(super) slot: Slot,
}

impl Arena {
    /// So many pages.
    pub(super) fn pages(self) -> u64 {
        self.slot.size / PAGE
    }

    /// The GPA of a page: of the host's mark in it.
    pub(super) fn page(self, number: u64) -> u64 {
        self.slot.gpa + number * PAGE
    }

    /// The GPA of code in a page that returns the host's mark.
    pub(super) fn code(self, number: u64) -> u64 {
        self.page(number) + EXECUTABLE
    }

    /// The GPA of a vCPU's word in a page.
    pub(super) fn word(self, number: u64, vcpu: usize) -> u64 {
        self.page(number) + VCPU_WORDS + vcpu as u64 * 8
    }

    /// The host's mark in a page.
    pub(super) fn mark(self, number: u64) -> u64 {
        mark(self.page(number), Writer::Host)
    }

    /// Writes the host's mark into a page, and the code that returns it.
    pub(super) fn put_mark(self, vm: &Vm, number: u64) {
        self.put(vm, number, self.mark(number));
    }

    /// The same with another word.
    pub(super) fn put(self, vm: &Vm, number: u64, word: u64) {
        let memory = vm.memory(self.slot.memory);
        memory.set_word(number * PAGE, word);
        put_executable(memory, number * PAGE + EXECUTABLE, word);
    }

    /// Fails if memory, seen from outside, does not hold this at this GPA.
    pub(super) fn expect(self, vm: &Vm, gpa: u64, expected: u64) -> Result<()> {
        let found = vm.memory(self.slot.memory).word(gpa - self.slot.gpa);
        if found != expected {
            bail!("{found:#x} is in the memory of GPA {gpa:#x}, not {expected:#x}");
        }
        Ok(())
    }
}

impl<'a> Machine<'a> {
    /// A guest whose MAXPHYADDR is what KVM supports.
    pub(super) fn new(host: &'a Host<'a>) -> Result<Self> {
        let vm = Vm::new(host.kvm)?;
        let bits = vm.maxphyaddr();
        Self::with_maxphyaddr(host, vm, bits)
    }

    /// A guest of this MAXPHYADDR in bits.
    pub(super) fn with_maxphyaddr(host: &'a Host<'a>, vm: Vm, bits: u8) -> Result<Self> {
        Self::with_cpuids(host, vm, host.settings.vcpus, &[Cpuid::of(bits)])
    }

    /// A guest of so many vCPUs, whose CPUIDs are set one after the other.
    pub(super) fn with_cpuids(
        host: &'a Host<'a>,
        mut vm: Vm,
        vcpus: usize,
        cpuids: &[Cpuid],
    ) -> Result<Self> {
        let mut memory = Memory::small_pages(LOW)?;
        memory.write(CODE, program::image());
        let tables = Tables::new(&mut memory, TABLES, 4);
        for gpa in (0..LOW).step_by(usize::try_from(LARGE_PAGE)?) {
            tables.map(&mut memory, gpa, gpa);
        }
        let low = vm.add_memory(0, memory)?;
        let create = |id| {
            let vcpu = vm.create_vcpu(id, cpuids)?;
            tables.enter(&vcpu, cpuids, &kvm_regs::default())?;
            Ok(vcpu)
        };
        let vcpus = (0..vcpus as u64).map(create).collect::<Result<_>>()?;
        Ok(Self { vcpus, vm, low, tables, windows: Vec::new(), host })
    }

    /// Sets the CPUID of all vCPUs again, between two runs. From 5.16 on KVM refuses it
    /// (feb627e8d6f6), and the guest goes on with the one before.
    pub(super) fn set_cpuid(&self, cpuid: Cpuid) -> Result<()> {
        let cpuid = cpuid.within(self.vm.supported())?;
        for vcpu in &self.vcpus {
            match vcpu.set_cpuid2(&cpuid) {
                Err(err) if err.errno() != libc::EINVAL => {
                    return Err(err).context("KVM_SET_CPUID2");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The numbers of the vCPUs.
    pub(super) fn vcpus(&self) -> std::ops::Range<usize> {
        0..self.vcpus.len()
    }

    /// Gives the guest virtual addresses for a range of GPAs, with or without memory.
    pub(super) fn open_window(&mut self, gpa: u64, size: u64) -> Result<()> {
        let last = self.windows.last();
        let address = last.map_or(LOW, |window| window.address + window.size);
        let start = gpa & !(LARGE_PAGE - 1);
        let size = (gpa - start + size).next_multiple_of(LARGE_PAGE);
        if address + size > END {
            bail!("the guest's page tables have no room for {size:#x} bytes at GPA {gpa:#x}");
        }
        for at in (0..size).step_by(usize::try_from(LARGE_PAGE)?) {
            self.tables.map(self.vm.memory_mut(self.low), address + at, start + at);
        }
        self.windows.push(Window { gpa: start, size, address });
        Ok(())
    }

    /// Adds memory in a slot at this GPA, with virtual addresses for all of it.
    pub(super) fn add_arena(&mut self, gpa: u64, memory: Memory) -> Result<Arena> {
        let size = memory.size();
        self.add_part(gpa, memory, size)
    }

    /// Adds memory in a slot at this GPA, with virtual addresses for so much of it.
    pub(super) fn add_part(&mut self, gpa: u64, memory: Memory, shown: u64) -> Result<Arena> {
        self.open_window(gpa, shown)?;
        let size = memory.size();
        let memory = self.vm.add_memory(gpa, memory)?;
        Ok(Arena { slot: Slot { number: u32::try_from(memory)?, gpa, size, memory, flags: 0 } })
    }

    /// Runs each vCPU through the steps made for it, all at once, and sees that they come out as
    /// they should.
    pub(super) fn run(&mut self, steps: impl FnMut(usize) -> Vec<Step>) -> Result<Vec<Exits>> {
        self.run_and(steps, |_| Ok(()))
    }

    /// The same; at each pause, of whichever vCPU, the host acts while the other vCPUs run on.
    pub(super) fn run_and(
        &mut self,
        steps: impl FnMut(usize) -> Vec<Step>,
        mut act: impl FnMut(&Vm) -> Result<()>,
    ) -> Result<Vec<Exits>> {
        let all: Vec<_> = self.vcpus().map(steps).collect();
        for (id, steps) in all.iter().enumerate() {
            self.load(id, steps)?;
        }
        let vm = &self.vm;
        let exits = vcpus::run(&mut self.vcpus, self.host.stop, || act(vm))?;
        for (id, (steps, exits)) in all.iter().zip(&exits).enumerate() {
            let values = (0..steps.len() as u64).map(|step| self.list(id) + step * COMMAND + VALUE);
            let low = self.vm.memory(self.low);
            let values: Vec<_> = values.map(|at| low.word(at)).collect();
            verify(steps, &values, &exits.writes).with_context(|| format!("vCPU {id}"))?;
        }
        Ok(exits)
    }

    /// Bytes of a vCPU's list.
    fn list_size(&self) -> u64 {
        (LOW - LISTS) / self.vcpus.len() as u64 / COMMAND * COMMAND
    }

    /// Where a vCPU's list is.
    fn list(&self, id: usize) -> u64 {
        LISTS + id as u64 * self.list_size()
    }

    /// Writes the list of a vCPU, and points it there.
    fn load(&self, id: usize, steps: &[Step]) -> Result<()> {
        let list = self.list(id);
        if (steps.len() as u64 + 1) * COMMAND > self.list_size() {
            bail!("no room for {} steps of a vCPU: ask for less (--intensity)", steps.len());
        }
        let low = self.vm.memory(self.low);
        let put = |at: u64, code: Code, address: u64, value: u64| {
            low.set_word(at, code as u64);
            low.set_word(at + 8, address);
            low.set_word(at + VALUE, value);
        };
        let mut at = list;
        for step in steps {
            match *step {
                Step::Read(gpa, _) => put(at, Code::Read, self.address(gpa)?, 0),
                Step::Execute(gpa, _) => put(at, Code::Execute, self.address(gpa)?, 0),
                Step::Write(gpa, value, _) => put(at, Code::Write, self.address(gpa)?, value),
                Step::Pause => put(at, Code::Pause, 0, 0),
            }
            at += COMMAND;
        }
        put(at, Code::End, 0, 0);
        let regs = kvm_regs {
            rip: CODE,
            rsi: list,
            r8: CODE + program::store(),
            rflags: 2,
            ..Default::default()
        };
        self.vcpus[id].set_regs(&regs).context("KVM_SET_REGS")
    }

    /// The virtual address of a GPA.
    fn address(&self, gpa: u64) -> Result<u64> {
        let is_in = |window: &&Window| (window.gpa..window.gpa + window.size).contains(&gpa);
        let window = self.windows.iter().find(is_in);
        let window = window.with_context(|| format!("no window for GPA {gpa:#x}"))?;
        Ok(window.address + (gpa - window.gpa))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use kvm_ioctls::Kvm;

    use super::*;
    use crate::guest::scenario::Settings;

    #[test]
    fn a_page_in_the_place_of_another_is_noticed() {
        let Ok(kvm) = Kvm::new() else {
            eprintln!("skipped: no /dev/kvm");
            return;
        };
        let settings = Settings {
            vcpus: 2,
            seed: 0,
            intensity: 1,
            time: Duration::ZERO,
            maxphyaddrs: Vec::new(),
            reach: Ok(48),
        };
        let never = &AtomicBool::new(false);
        let host = Host { kvm: &kvm, settings: &settings, stop: never, is_ahead: never };
        let mut machine = Machine::new(&host).expect("a guest");
        let memory = Memory::small_pages(3 * PAGE).expect("memory");
        let arena = machine.add_arena(BASE, memory).expect("a slot");
        (0..3).for_each(|page| arena.put_mark(&machine.vm, page));
        let read = |page| Step::read(arena.page(page), arena.mark(page));
        let code = |page| Step::Execute(arena.code(page), vec![arena.mark(page)]);
        let all = |step: &dyn Fn(u64) -> Step| (0..3).map(step).collect::<Vec<_>>();
        assert!(machine.run(|_| all(&read)).is_ok() && machine.run(|_| all(&code)).is_ok());

        // As a table would have it that leads to page 1 for page 2.
        arena.put(&machine.vm, 2, arena.mark(1));
        for steps in [all(&read), all(&code)] {
            let err = machine.run(|_| steps.clone()).expect_err("a wrong page");
            let said = format!("{err:#}");
            assert!(said.starts_with("vCPU 0: step 2: "), "{said}");
            assert!(said.contains("is read at GPA 0x40002000") || said.contains("0x40002010"));
        }
        let seen = arena.expect(&machine.vm, arena.page(2), arena.mark(2));
        assert!(seen.is_err_and(|err| err.to_string().contains("0x40002000")));
    }
}
