//! The maps, and the constants handed down.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use ept_trace_common::abi::{
    ABSENT, Config, Counters, DecisionRecord, Field, Fields, FileFields, Header, Hook, LoadRecord,
    MmuState, Plain, RaceFields, ShadowRecord, TracepointFields, Variables, WalkRecord,
};

use crate::call::Outcome;

/// Offsets and filters; userspace puts the real ones in place before the programs are loaded.
// SAFETY: the name is what userspace looks the constant up by; nothing else has it.
#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    pidns_dev: 0,
    pidns_ino: 0,
    filter_tgid: 0,
    cpuid_embedded: 0,
    drop_right: 0,
    struct_page_size: ABSENT,
    one_walk_in: 0,
    memslot_size: ABSENT,
    history: 0,
    reserved: 0,
    fields: Fields {
        kvm: Field::ABSENT,
        vcpu_id: Field::ABSENT,
        maxphyaddr: Field::ABSENT,
        cr4: Field::ABSENT,
        efer: Field::ABSENT,
        mmu: Field::ABSENT,
        guest_mmu: Field::ABSENT,
        role: Field::ABSENT,
        cpu_role: Field::ABSENT,
        root_level: Field::ABSENT,
        direct: Field::ABSENT,
        cpuid_nent: Field::ABSENT,
        cpuid_entries: Field::ABSENT,
        userspace_pid: Field::ABSENT,
        vm_type: Field::ABSENT,
        root_mmu: Field::ABSENT,
        root_hpa: Field::ABSENT,
        page_fault: Field::ABSENT,
        ad_disabled: Field::ABSENT,
        walk_level: Field::ABSENT,
        page_private: Field::ABSENT,
        race: RaceFields {
            notifier_seq: Field::ABSENT,
            notifier_in_progress: Field::ABSENT,
            memslots: Field::ABSENT,
            generation: Field::ABSENT,
            slots_lock: Field::ABSENT,
            last_used_slot: Field::ABSENT,
            used_slots: Field::ABSENT,
            slots: Field::ABSENT,
            slot_base: Field::ABSENT,
            slot_pages: Field::ABSENT,
            slot_flags: Field::ABSENT,
        },
        noncoherent_dma: Field::ABSENT,
        mmio_value: Field::ABSENT,
    },
    files: FileFields {
        files: Field::ABSENT,
        fdt: Field::ABSENT,
        max_fds: Field::ABSENT,
        fd: Field::ABSENT,
        private_data: Field::ABSENT,
        dentry: Field::ABSENT,
        name: Field::ABSENT,
        superblock: Field::ABSENT,
        magic: Field::ABSENT,
    },
    tracepoints: TracepointFields {
        ioctl_fd: Field::ABSENT,
        ioctl_cmd: Field::ABSENT,
        ioctl_ret: Field::ABSENT,
        page_gfn: Field::ABSENT,
        page_role: Field::ABSENT,
    },
};

/// The configuration. A volatile reference: its value here is not the one at run time.
#[inline(always)]
pub fn config() -> &'static Config {
    // SAFETY: CONFIG is a static; the volatile read of its address keeps the compiler from
    // folding the placeholder values into the programs.
    unsafe { &*core::ptr::read_volatile(&&raw const CONFIG) }
}

/// What is known of the modules that are loaded now.
#[map]
pub static VARIABLES: Array<Variables> = Array::with_max_entries(1, 0);

/// What became of each call, by CPU and then by hook. Userspace maps it: while bpf() looks into a
/// map, the kernel runs no program on that CPU, and calls would be missed for being counted. It sets
/// the size as well, by the number of CPUs.
#[map]
pub static COUNTERS: Array<Counters> = Array::with_max_entries(HOOKS, BPF_F_MMAPABLE);

/// How many hooks there are.
pub const HOOKS: u32 = Hook::ALL.len() as u32;

/// The events. Userspace may set another size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What must not be lost behind many ordinary events: set-up, VMs that come and go, and decisions,
/// roots and walks that look wrong.
#[map]
pub static URGENT: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// Where a decision is put together before it goes into a ring.
#[map]
pub static SCRATCH: PerCpuArray<DecisionRecord> = PerCpuArray::with_max_entries(1, 0);

/// The same for a root that is loaded.
#[map]
pub static SCRATCH_LOAD: PerCpuArray<LoadRecord> = PerCpuArray::with_max_entries(1, 0);

/// The same for the MMU of a nested guest.
#[map]
pub static SCRATCH_SHADOW: PerCpuArray<ShadowRecord> = PerCpuArray::with_max_entries(1, 0);

/// A call in progress: from entry to return of one thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InFlight {
    /// Address of the vCPU.
    pub vcpu: u64,
    /// `flag`s gathered so far, or the ioctl's command.
    pub detail: u64,
    /// The root MMU at entry.
    pub before: MmuState,
}

/// Threads inside `kvm_init_mmu`, by `pid_tgid`.
#[map]
pub static IN_INIT_MMU: LruHashMap<u64, InFlight> = LruHashMap::with_max_entries(4096, 0);

/// The first arguments of a call in progress, the vCPU before the others.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    /// Address of the vCPU.
    pub vcpu: u64,
    /// What follows it; what each means depends on the function.
    pub others: [u64; 3],
}

/// Threads inside `vmx_load_mmu_pgd`, by `pid_tgid`.
#[map]
pub static IN_LOAD_PGD: LruHashMap<u64, Arguments> = LruHashMap::with_max_entries(4096, 0);

/// Threads inside `kvm_init_shadow_ept_mmu` or `kvm_init_shadow_npt_mmu`, by `pid_tgid`.
#[map]
pub static IN_SHADOW_INIT: LruHashMap<u64, Arguments> = LruHashMap::with_max_entries(4096, 0);

/// Threads inside `kvm_mmu_page_fault`, by `pid_tgid`.
#[map]
pub static IN_FAULT: LruHashMap<u64, Fault> = LruHashMap::with_max_entries(4096, 0);

/// A fault that is being handled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fault {
    /// Address of the vCPU.
    pub vcpu: u64,
    pub gpa: u64,
    pub error_code: u64,
    /// Where the MMU in use when it began is, as `vcpu::base_of_mmu_in_use` has it.
    pub mmu: u64,
    /// Its root.
    pub root_hpa: u64,
    /// State of the VM when it began.
    pub notifier_seq: u64,
    pub slots_generation: u64,
    /// What the fault resolved to.
    pub requested_gfn: u64,
    pub requested_pfn: u64,
    pub requested_level: u32,
    /// Return of `kvm_tdp_page_fault`.
    pub answer: u32,
    /// Of `flag`: NESTED, ANSWERED, REQUESTED.
    pub flags: u32,
    /// Explicit padding: the kernel compares and copies all of it.
    pub reserved: u32,
}

/// Where a walk is put together before it goes into its ring.
#[map]
pub static SCRATCH_WALK: PerCpuArray<WalkRecord> = PerCpuArray::with_max_entries(1, 0);

/// The walks: as many as there are faults, so they have a ring that nothing else waits in.
/// Userspace may set another size.
#[map]
pub static WALKS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The changes of entries, which come in bursts. Userspace may set another size.
#[map]
pub static HISTORY: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Changes that threads are about to tell, by `pid_tgid` and the entry before. A change of a table
/// has those of its entries inside it, and is told before them, or after (7.2).
#[map]
pub static CHANGES: LruHashMap<[u64; 2], Change> = LruHashMap::with_max_entries(16384, 0);

/// See [`CHANGES`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Change {
    /// Address of `struct kvm`.
    pub vm: u64,
    pub gfn: u64,
}

/// The gfn and the new entry of the last change that a thread has told, by `pid_tgid`.
#[map]
pub static TOLD: LruHashMap<u64, [u64; 2]> = LruHashMap::with_max_entries(4096, 0);

/// VMs of the process that is asked for, by their addresses. Others change their entries as well:
/// whoever reclaims memory does.
#[map]
pub static WANTED_VMS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(4096, 0);

/// The last fault of a vCPU, by its address.
#[map]
pub static FAULTS: LruHashMap<u64, Repeated> = LruHashMap::with_max_entries(4096, 0);

/// See [`FAULTS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Repeated {
    pub gpa: u64,
    pub error_code: u64,
    /// When the first of them was.
    pub since_ns: u64,
    /// When the last.
    pub last_ns: u64,
    /// What the last of them found in the tables, in one word.
    pub walked: u64,
    /// Return of `kvm_tdp_page_fault`.
    pub answer: u32,
    pub count: u32,
}

impl Repeated {
    /// So many equal faults in a row are a loop. A power of two.
    const LOOP: u32 = 256;

    pub fn is_loop(&self) -> bool {
        self.count >= Self::LOOP
    }

    /// Whether a loop is told after so many faults: when it is one, and at every doubling.
    pub fn is_told(&self) -> bool {
        self.is_loop() && self.count.is_power_of_two()
    }
}

/// What of a vCPU is reported only when it changes: each happens at every entry of an L2.
#[repr(u64)]
#[derive(Clone, Copy)]
pub enum Aspect {
    /// The root of `root_mmu`.
    Root,
    /// The root of `guest_mmu`.
    NestedRoot,
    /// `guest_mmu` after its set-up.
    Shadow,
    /// `root_mmu`, looked at while L2 runs.
    NestedDecision,
}

/// What was last reported of a vCPU, by its address and [`Aspect`].
#[map]
pub static SEEN: LruHashMap<[u64; 2], [u64; 6]> = LruHashMap::with_max_entries(16384, 0);

/// Hands over what was not last reported, and counts the rest as filtered. What is dropped on the
/// way was not reported.
#[inline(always)]
pub fn if_news(
    vcpu: u64,
    aspect: Aspect,
    now: &[u64; 6],
    hand_over: impl FnOnce() -> Outcome,
) -> Outcome {
    let key = [vcpu, aspect as u64];
    // SAFETY: compared at once; a vCPU runs on one thread at a time.
    if unsafe { SEEN.get(&key) }.is_some_and(|last| *last == *now) {
        return Outcome::Filtered;
    }
    let outcome = hand_over();
    if !matches!(outcome, Outcome::Dropped) {
        let _ = SEEN.insert(&key, now, 0);
    }
    outcome
}

/// A vCPU was set up anew, or another one is at its address: everything about it is news.
#[inline(always)]
pub fn forget(vcpu: u64) {
    for aspect in [Aspect::Root, Aspect::NestedRoot, Aspect::Shadow, Aspect::NestedDecision] {
        let _ = SEEN.remove(&[vcpu, aspect as u64]);
    }
    let _ = FAULTS.remove(&vcpu);
}

/// Threads inside an ioctl on a vCPU, by `pid_tgid`.
#[map]
pub static IN_IOCTL: LruHashMap<u64, InFlight> = LruHashMap::with_max_entries(4096, 0);

/// What was last reported of a vCPU at KVM_RUN, so that only changes are.
#[map]
pub static REPORTED: LruHashMap<u64, Reported> = LruHashMap::with_max_entries(4096, 0);

/// See [`REPORTED`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    pub maxphyaddr: u32,
    pub root_level: u32,
    pub role: u64,
}
