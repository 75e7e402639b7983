//! A VMM whose guest does a few known things, so that a log of it is short and holds every kind of
//! line: faults in pages of 4 KiB and of 2 MiB, MMIO, pages taken away, a memslot that moves, dirty
//! logging, and the CPUID leaf of the address sizes.
//!
//! It looks as QEMU does: a process for each VM, a thread for each vCPU, named `CPU 0/KVM`, and
//! another that sees to memory. It prints each step with the time on CLOCK_MONOTONIC, by which the
//! lines of a log can be told apart.

mod memory;
mod vcpu;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};

use self::memory::Memory;
use self::vcpu::{Act, Vcpu};

const PAGE: u64 = 4 << 10;
const LARGE_PAGE: u64 = 2 << 20;
/// Where the guest's code is.
const CODE: u64 = 0x1000;
/// Where memory of small pages begins, and where it is moved to.
const SMALL: u64 = 0x100_0000;
const MOVED: u64 = 0x1000_0000;
/// Its size; what is not touched is not there.
const SMALL_SIZE: u64 = 4096 * PAGE;
/// Where memory of large pages begins.
const LARGE: u64 = 0x4000_0000;
/// Where no memory is.
const NOWHERE: u64 = 0xd000_0000;
/// The leaf with MAXPHYADDR.
const ADDRESS_SIZES: u64 = 0x8000_0008;

/// A guest that does a few known things.
#[derive(Parser)]
struct Args {
    /// MAXPHYADDR of the guest, in bits
    maxphyaddr: u32,
    /// Milliseconds before each step
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Also move a memslot, which is thousands of lines: all tables are taken apart
    #[arg(long)]
    moving: bool,
    /// Instead: so often, write to each of 4096 pages and take them all away
    #[arg(long, default_value_t = 0)]
    sweeps: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let kvm = Kvm::new().context("cannot open /dev/kvm")?;
    let vm = kvm.create_vm().context("KVM_CREATE_VM")?;
    // Intel CPUs without unrestricted guests run real mode in a TSS of KVM's.
    vm.set_tss_address(0xfffb_d000).context("KVM_SET_TSS_ADDR")?;
    let machine = Machine {
        code: Memory::small_pages(2 * PAGE)?,
        small: Memory::small_pages(SMALL_SIZE)?,
        large: Memory::large_pages(2 * LARGE_PAGE)?,
        vm,
    };
    let start = |id| Vcpu::start(&kvm, &machine.vm, id, args.maxphyaddr);
    let (first, second) = (start(0)?, start(1)?);
    machine.code.write(CODE, &vcpu::PROGRAM);
    machine.slot(0, &machine.code, 0, 0)?;
    machine.slot(1, &machine.small, SMALL, 0)?;
    machine.slot(2, &machine.large, LARGE, 0)?;
    if args.sweeps == 0 {
        return machine.run(&first, &second, &args);
    }
    for _ in 0..args.sweeps {
        first.act(Act::Sweep, SMALL)?;
        machine.small.discard(0, SMALL_SIZE)?;
    }
    Ok(())
}

/// The VM with its memory, which goes after it.
struct Machine {
    vm: VmFd,
    code: Memory,
    small: Memory,
    large: Memory,
}

impl Machine {
    /// The story, step by step.
    fn run(&self, first: &Vcpu, second: &Vcpu, args: &Args) -> Result<()> {
        let step = |what: &str| {
            sleep(Duration::from_millis(args.pause));
            println!("{:.6} MAXPHYADDR {}: {what}", memory::monotonic_seconds(), args.maxphyaddr);
        };
        step("CPUID");
        first.act(Act::Cpuid, ADDRESS_SIZES)?;
        step("small pages");
        first.act(Act::Write, SMALL)?;
        // Of a page that is not there yet, zeroes are read; to write it takes a fault of its own.
        first.act(Act::Read, SMALL + PAGE)?;
        first.act(Act::Write, SMALL + PAGE)?;
        second.act(Act::Read, SMALL)?;
        second.act(Act::Write, SMALL + 2 * PAGE)?;
        step("large pages");
        first.act(Act::Write, LARGE)?;
        second.act(Act::Read, LARGE + LARGE_PAGE)?;
        step("MMIO");
        first.act(Act::Write, NOWHERE)?;
        first.act(Act::Read, NOWHERE)?;
        step("a small page is taken away, and touched again");
        self.small.discard(0, PAGE)?;
        first.act(Act::Read, SMALL)?;
        step("a part of a large page is taken away, and touched again");
        self.large.discard(3 * PAGE, PAGE)?;
        first.act(Act::Write, LARGE + 3 * PAGE)?;
        step("dirty logging");
        self.slot(1, &self.small, SMALL, KVM_MEM_LOG_DIRTY_PAGES)?;
        first.act(Act::Write, SMALL + PAGE)?;
        let size = usize::try_from(SMALL_SIZE)?;
        self.vm.get_dirty_log(1, size).context("KVM_GET_DIRTY_LOG")?;
        second.act(Act::Write, SMALL + PAGE)?;
        if args.moving {
            step("a memslot is moved");
            self.slot(1, &self.small, MOVED, 0)?;
            first.act(Act::Write, MOVED + PAGE)?;
            first.act(Act::Read, SMALL)?;
        }
        step("end");
        Ok(())
    }

    /// Makes a memslot, moves it, or changes its flags.
    fn slot(&self, slot: u32, memory: &Memory, gpa: u64, flags: u32) -> Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: gpa,
            memory_size: memory.size(),
            userspace_addr: memory.address(),
        };
        // SAFETY: so much memory is mapped there, and stays so until after the VM is gone.
        unsafe { self.vm.set_user_memory_region(region) }
            .with_context(|| format!("KVM_SET_USER_MEMORY_REGION of slot {slot} at {gpa:#x}"))
    }
}
