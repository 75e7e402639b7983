//! The entries that a fault's address is translated by, as they were read.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Inputs;

/// A fault that KVM has handled, and the entries on the way to its address right after that.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Walk {
    /// The hook that captured it.
    pub observed_by: Cow<'static, str>,
    /// Number of the VM.
    pub vm: u32,
    /// `kvm->userspace_pid`.
    pub pid: u32,
    /// `vcpu->vcpu_id`.
    pub vcpu: u32,
    /// The guest-physical address; of L2, if `nested`.
    pub gpa: u64,
    /// `PFERR_*` bits.
    pub error_code: u64,
    /// The MMU is `guest_mmu`: its table shadows one of L1.
    pub nested: bool,
    /// What `kvm_tdp_page_fault` returned, a `RET_PF_*`, if it was called.
    pub answer: Option<u32>,
    /// What `kvm_mmu_page_fault` returned: above 0 to resume the guest, 0 to leave to userspace, an
    /// error below.
    pub result: i32,
    /// What the fault was resolved to.
    pub requested: Option<Requested>,
    /// `root.hpa`; all ones for none.
    pub root_hpa: Option<u64>,
    /// Level of the root.
    pub root_level: Option<u8>,
    /// `ad_disabled` of the MMU's role.
    pub ad_disabled: Option<bool>,
    /// The root is no page table page of KVM's.
    pub is_dummy: bool,
    /// The entries, the root's first, until one leads no further.
    pub entries: Vec<u64>,
    /// The entry that would follow could not be read.
    pub is_cut: bool,
    /// `kvm_mmu_page_role` of the page that each entry is in, where that can be told; 0 for a page
    /// that is none of KVM's tables.
    pub roles: Vec<u32>,
    /// Other walks of the VM were left out.
    pub sampled: bool,
    /// What others did meanwhile.
    pub races: Vec<Race>,
    /// What of that cannot be seen on this kernel.
    pub unseen_races: Vec<Race>,
    /// `flags` of the memslot.
    pub slot_flags: Option<u32>,
    /// `kvm->arch.noncoherent_dma_count`: devices whose DMA the caches do not see.
    pub noncoherent_dma: Option<u32>,
    /// `kvm->arch.vm_type`, where the kernel has it.
    pub vm_type: Option<u32>,
    /// `kvm->arch.shadow_mmio_value`, where the kernel has it.
    pub mmio_value: Option<u64>,
    /// `kvm->mmu_invalidate_seq` when the fault began: the host has taken no page of the VM away
    /// between two walks that have the same.
    pub notifier_seq: Option<u64>,
    /// Generation of the memslots when the fault began.
    pub slots_generation: Option<u64>,
    /// KVM's own variables at that moment.
    pub inputs: Inputs,
}

/// What a fault was resolved to, by tracepoint `kvm_mmu_spte_requested`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requested {
    /// Frame of the guest, of 4 KiB; of L1, if the walk is nested.
    pub gfn: u64,
    /// Frame of the host, of 4 KiB.
    pub pfn: u64,
    /// The level to be mapped: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub level: u8,
}

/// What changes a table beside the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Race {
    /// The host took pages away: `mmu_invalidate_seq` or `mmu_invalidate_in_progress`.
    Notifier,
    /// The memslots were changed.
    Memslots,
    /// The entries were others when they were read again.
    Entries,
    /// The MMU was given another root.
    Root,
}

impl Race {
    /// In words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Notifier => "the host was taking pages away (mmu_invalidate_seq)",
            Self::Memslots => "the memslots were changed",
            Self::Entries => "the entries changed while they were read",
            Self::Root => "the MMU was given another root",
        }
    }
}

impl Walk {
    /// Writes to the memslot are logged, so that KVM may take W away, and split a page, at any time.
    pub fn is_dirty_logged(&self) -> Option<bool> {
        const KVM_MEM_LOG_DIRTY_PAGES: u32 = 1;
        self.slot_flags.map(|flags| flags & KVM_MEM_LOG_DIRTY_PAGES != 0)
    }
}
