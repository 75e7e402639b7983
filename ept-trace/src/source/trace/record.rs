//! One line, or one record, of a log.

use std::io;

use crate::model::ToldRole;
use crate::source::Skipped;

/// A tracepoint that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// By the clock of the log, in nanoseconds.
    pub time_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its process; 0 where the log does not tell.
    pub tgid: u32,
    /// What fired.
    pub event: Tracepoint,
}

/// The tracepoints that say something about a TDP table, with what of their fields matters.
///
/// A field that only some kernels or formats tell is an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracepoint {
    /// `kvm:kvm_entry`: the vCPU enters the guest.
    Entry {
        /// `vcpu_id`.
        vcpu: Option<u32>,
    },
    /// `kvm:kvm_exit`.
    Exit {
        /// `vcpu_id`, which is not in the text of all kernels.
        vcpu: Option<u32>,
        /// 1 for VMX, 2 for SVM, as the field `isa` has it.
        isa: Option<u8>,
    },
    /// `kvm:kvm_page_fault`: a fault on the TDP table, or under shadow paging.
    PageFault {
        /// `vcpu_id` (6.1 and later).
        vcpu: Option<u32>,
        /// The guest-physical address.
        gpa: u64,
        /// On SVM `EXITINFO1`; on VMX the exit qualification.
        error_code: u64,
    },
    /// `kvmmmu:kvm_mmu_get_page`: a page is taken into use for a table.
    GetPage {
        /// First frame that it maps.
        gfn: u64,
        /// Its role.
        role: PageRole,
        /// It is new, and was not found among those in use. `None` where that is not told.
        created: Option<bool>,
    },
    /// `kvmmmu:kvm_mmu_prepare_zap_page`: a table is thrown away.
    PrepareZap {
        /// First frame that it maps.
        gfn: u64,
        /// Its role.
        role: PageRole,
    },
    /// `kvmmmu:kvm_tdp_mmu_spte_changed`.
    SpteChanged {
        /// Address space.
        as_id: u8,
        /// First frame that the entry is for.
        gfn: u64,
        /// Level of the table that it is in.
        level: u8,
        /// The entry before.
        old: u64,
        /// The entry now.
        new: u64,
    },
    /// `kvmmmu:kvm_mmu_set_spte`.
    SetSpte {
        /// The frame.
        gfn: u64,
        /// Level of the table that the entry is in.
        level: u8,
        /// The entry now.
        spte: u64,
        /// Its physical address.
        place: u64,
    },
    /// `kvmmmu:kvm_mmu_spte_requested`: what a fault is to be resolved to.
    SpteRequested {
        /// Frame of the guest.
        gfn: u64,
        /// Frame of the host.
        pfn: u64,
        /// The level to be mapped.
        level: u8,
    },
    /// `kvmmmu:mark_mmio_spte`.
    MarkMmio {
        /// The frame.
        gfn: u64,
        /// Address of the entry, as the kernel maps it.
        place: u64,
    },
    /// `kvm:kvm_unmap_hva_range`: the host takes pages away; until this thread goes on with its own
    /// work, the entries that it changes may be of any VM.
    UnmapHva,
    /// `kvmmmu:kvm_mmu_zap_all_fast`: all roots of a VM are thrown away.
    ZapAllFast,
    /// `kvm:kvm_cpuid`: the guest executes CPUID, and this is what it is told.
    Cpuid {
        /// The leaf.
        function: u32,
        /// What it is told in EAX.
        eax: u32,
    },
    /// `kvm:kvm_write_tsc_offset`, which KVM does when a vCPU is made.
    WriteTscOffset {
        /// `vcpu_id`.
        vcpu: u32,
        /// The offset before: 0 for a vCPU that is new.
        previous: u64,
    },
    /// `kvm:kvm_nested_vmrun`, later `kvm_nested_vmenter`: L1 runs L2.
    NestedEnter {
        /// `guest_pgd` (`nested_eptp`, `nested_cr3`), where L1 has EPT or NPT for L2.
        pgd: Option<u64>,
        /// It is EPT, and not NPT; `None` where the text does not tell.
        is_ept: Option<bool>,
    },
    /// `kvm:kvm_nested_vmexit_inject`: L2 is left for L1. (`kvm_nested_vmexit` is of every exit.)
    NestedExit,
    /// Events of the log are lost here.
    Lost {
        /// How many, where that is told; 0 for what goes on being missing after it was told.
        events: Option<u64>,
    },
}

/// What is told of `kvm_mmu_page_role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRole {
    /// All of it.
    Word(u32),
    /// What the kernel's own text has.
    Told(ToldRole),
}

impl PageRole {
    /// Level of the page.
    pub fn level(self) -> u8 {
        match self {
            Self::Word(word) => (word & 0xf) as u8,
            Self::Told(told) => told.level,
        }
    }
}

/// What a reader takes from its log at a time.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order of the log.
    pub records: Vec<Record>,
    /// What could not be read.
    pub skipped: Skipped,
    /// Events that are none of those above, and need not be.
    pub others: u64,
}

impl Batch {
    /// Whether there is nothing in it: the log has ended.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.skipped.count == 0 && self.others == 0
    }

    /// Takes everything out, and keeps the room.
    pub fn clear(&mut self) {
        self.records.clear();
        self.skipped = Skipped::default();
        self.others = 0;
    }
}

/// Reads a log from its begin to its end.
pub trait TraceReader: Send {
    /// Puts what comes next into an empty batch, some thousands of records at most; nothing at all is
    /// the end. Memory stays bounded whatever the log says.
    ///
    /// # Errors
    ///
    /// What makes all that follows unreadable; what was read before remains good.
    fn read(&mut self, batch: &mut Batch) -> io::Result<()>;
}
