//! The exact walk: SDM 31.3.

use ept_trace_common::eptp::{ACCESSED_DIRTY, walk_length};

use super::access::{Access, Kind, ShadowStack, Stage};
use super::bits::{ADDRESS, index, offset, page};
use super::entry::{
    ACCESSED, DIRTY, Format, PAGING_WRITE, SHADOW_STACK_PAGE, SUB_PAGE, VERIFY_GUEST_PAGING,
    leaf_memory,
};
use super::pointer::SHADOW_STACK;
use super::qualification::Denial;
use super::{Cpu, EntryBits, InvalidPointer, Misconfiguration, Outcome, PhysRead, Rights, Step};
use super::{SubPageEvent, Trail, Translation, Via, Walk};
use crate::model::{Gpa, Hpa};

/// What an EPTP means on a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Ept {
    pub(super) cpu: Cpu,
    /// Address of the root table.
    pub(super) root: u64,
    /// 4 or 5.
    pub(super) levels: u8,
    /// EPTP bit 6.
    pub(super) accessed_dirty: bool,
    /// EPTP bit 7.
    pub(super) shadow_stack: bool,
    pub(super) format: Format,
    /// [`Format::extraordinary`], for the fast path.
    pub(super) extraordinary: u64,
}

/// A leaf that was reached, and what led to it.
struct Leaf {
    entry: u64,
    level: u8,
    /// Rights of the entries above, ANDed.
    above: Rights,
}

impl Ept {
    /// What VM entry makes of an EPTP; on failure all that is wrong with it (SDM 29.2.1.1).
    pub fn new(eptp: u64, cpu: &Cpu) -> Result<Self, InvalidPointer> {
        let wrong = InvalidPointer::of(eptp, cpu);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let format = Format::new(eptp, cpu);
        Ok(Self {
            cpu: *cpu,
            root: eptp & ADDRESS,
            levels: walk_length(eptp),
            accessed_dirty: eptp & ACCESSED_DIRTY != 0,
            shadow_stack: eptp & SHADOW_STACK != 0,
            format,
            extraordinary: format.extraordinary(),
        })
    }

    /// The bits of an entry at a level from 1 to 5, by name.
    pub fn describe(&self, entry: u64, level: u8) -> EntryBits {
        self.format.describe(entry, level)
    }

    /// What is wrong with an entry at a level from 1 to 5, if it is present.
    pub fn misconfiguration(&self, entry: u64, level: u8) -> Misconfiguration {
        if self.format.is_present(entry) {
            self.format.misconfiguration(entry, level.clamp(1, 5))
        } else {
            Misconfiguration::empty()
        }
    }

    /// Translates an address, and says how.
    pub fn walk(&self, memory: &impl PhysRead, gpa: Gpa, access: &Access) -> Walk {
        let mut trail = Trail::default();
        let outcome = self.descend(memory, gpa.0, access, &mut trail);
        Walk { outcome, trail }
    }

    /// Translates an access of 1 to 128 contiguous bytes: the walk of its first byte, or that of
    /// its last if only that one does not translate. Each page, and each sub-page of 128 bytes, has
    /// permissions of its own (SDM 31.3.3.2, 31.3.4).
    pub fn walk_bytes(
        &self,
        memory: &impl PhysRead,
        gpa: Gpa,
        length: u8,
        access: &Access,
    ) -> Walk {
        let first = self.walk(memory, gpa, access);
        let last = gpa.0.saturating_add(u64::from(length.saturating_sub(1)));
        if gpa.0 >> 7 == last >> 7 || !matches!(first.outcome, Outcome::Translation(_)) {
            return first;
        }
        let second = self.walk(memory, Gpa(last), access);
        if matches!(second.outcome, Outcome::Translation(_)) { first } else { second }
    }

    /// From the root to the leaf. Of a misconfiguration and a right that is missing above it, the
    /// misconfiguration wins: rights are looked at last (SDM 31.3.3.3).
    fn descend(
        &self,
        memory: &impl PhysRead,
        gpa: u64,
        access: &Access,
        trail: &mut Trail,
    ) -> Outcome {
        // 31.3.1: the guest's own paging has faulted.
        if gpa >> self.cpu.gpa_width() != 0 {
            return Outcome::GpaNotRepresentable;
        }
        // 31.3.2: no entry is read.
        if self.levels == 4 && gpa >> 48 != 0 {
            return self.violation(access, &Denial::TooWide);
        }
        let mut above = Rights::all();
        let mut table = self.root;
        let mut level = self.levels;
        loop {
            let index = index(gpa, level);
            let at = Hpa(table | u64::from(index) << 3);
            let Some(entry) = memory.read_u64(at) else { return Outcome::NotInDump { at, level } };
            trail.push(Step { level, table: Hpa(table), index, entry });
            // 31.3.2: a violation; whatever else is in the entry is ignored.
            if !self.format.is_present(entry) {
                return self.violation(access, &Denial::NotPresent { entry, level });
            }
            // 31.3.3.1
            let reasons = self.format.misconfiguration(entry, level);
            if !reasons.is_empty() {
                return Outcome::Misconfiguration { level, reasons };
            }
            if self.format.is_leaf(entry, level) {
                return self.land(gpa, access, &Leaf { entry, level, above }, trail);
            }
            above &= self.format.rights(entry);
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    /// What the access is allowed, at the leaf (SDM 31.3.3.2).
    fn land(&self, gpa: u64, access: &Access, leaf: &Leaf, trail: &Trail) -> Outcome {
        let &Leaf { entry, level, above } = leaf;
        let rights = above & self.format.rights(entry);
        let denied = |unverified| {
            self.violation(access, &Denial::Rights { entry, level, rights, unverified })
        };
        let via = match self.permission(gpa, access, leaf, rights) {
            Permission::Allowed => None,
            Permission::Via(via) => Some(via),
            Permission::Denied => return denied(false),
            Permission::SubPage { miss } => return self.sub_page_event(access, miss),
        };
        if self.fails_verification(access, entry) {
            return denied(true);
        }
        let (accessed, dirty) = self.flags_to_set(access, entry, trail);
        // 31.3.6: the index is looked at before any flag is set.
        if (accessed != 0 || dirty) && self.cpu.controls.pml_index.is_some_and(|at| at > 511) {
            return Outcome::LogFull;
        }
        Outcome::Translation(Translation {
            hpa: Hpa(page(entry, level) | offset(gpa, level)),
            level,
            rights,
            memory: leaf_memory(entry),
            accessed,
            dirty,
            via,
        })
    }

    fn permission(&self, gpa: u64, access: &Access, leaf: &Leaf, rights: Rights) -> Permission {
        let &Leaf { entry, level, above } = leaf;
        let allowed = rights.contains(self.needs(access));
        if self.is_controlled_shadow_stack(access) {
            // 31.3.3.2: write permission of the leaf is irrelevant, for reads as for writes.
            let granted = self.format.has(entry, SHADOW_STACK_PAGE)
                && rights.contains(Rights::READ)
                && above.contains(Rights::WRITE);
            return match (granted, allowed) {
                (true, true) => Permission::Allowed,
                (true, false) => Permission::Via(Via::ShadowStack),
                (false, _) => Permission::Denied,
            };
        }
        if allowed {
            return Permission::Allowed;
        }
        let only_write_is_missing = self.needs(access).difference(rights) == Rights::WRITE;
        // 31.3.3.2: writes by the guest's paging; the tables above must allow writes.
        if access.stage.is_guest_table()
            && only_write_is_missing
            && rights.contains(Rights::READ)
            && above.contains(Rights::WRITE)
            && self.format.has(entry, PAGING_WRITE)
        {
            return Permission::Via(Via::PagingWrite);
        }
        // 31.3.4.1: eligible for sub-page write permissions. That reads must be allowed is Bochs's
        // understanding; the SDM does not say.
        if access.is_data_write()
            && !access.spp_exempt
            && only_write_is_missing
            && rights.contains(Rights::READ)
            && level == 1
            && self.format.has(entry, SUB_PAGE)
        {
            return sub_page(gpa, access.spp_vector);
        }
        Permission::Denied
    }

    /// The rights that an access needs by the ordinary rules (SDM 31.3.3.2).
    #[inline(always)]
    pub(super) const fn needs(&self, access: &Access) -> Rights {
        match access.stage {
            // 31.3.5: with accessed and dirty flags any walk of the guest's tables is a write.
            Stage::GuestTableRead | Stage::GuestTableUpdate if self.accessed_dirty => {
                Rights::READ.union(Rights::WRITE)
            }
            Stage::GuestTableRead | Stage::PdpteLoad => Rights::READ,
            Stage::GuestTableUpdate => Rights::WRITE,
            Stage::Final | Stage::Asynchronous => match access.kind {
                Kind::Read => Rights::READ,
                Kind::Write => Rights::WRITE,
                Kind::ReadModifyWrite => Rights::READ.union(Rights::WRITE),
                Kind::Fetch if self.cpu.controls.mbe && access.is_user() => Rights::USER,
                Kind::Fetch => Rights::EXECUTE,
            },
        }
    }

    fn sub_page_event(&self, access: &Access, miss: bool) -> Outcome {
        let (qualification, mask) = self.sub_page_qualification(access, miss);
        Outcome::SubPage(SubPageEvent { miss, qualification, mask })
    }

    /// Whether supervisor shadow-stack control governs the access.
    #[inline(always)]
    pub(super) const fn is_controlled_shadow_stack(&self, access: &Access) -> bool {
        self.shadow_stack
            && access.stage.is_final()
            && matches!(access.shadow_stack, Some(ShadowStack::Supervisor))
    }

    /// Whether guest-paging verification finds a guest table outside paging-write pages (SDM
    /// 31.3.3.2). It is done at the access itself.
    fn fails_verification(&self, access: &Access, leaf: u64) -> bool {
        self.cpu.controls.paging_write
            && access.stage == Stage::Final
            && self.format.has(leaf, VERIFY_GUEST_PAGING)
            && !access.guest_tables_all_paging_write
    }

    /// The levels where the accessed flag is yet to be set, and whether the dirty flag is (SDM
    /// 31.3.5).
    fn flags_to_set(&self, access: &Access, leaf: u64, trail: &Trail) -> (u8, bool) {
        if !self.accessed_dirty {
            return (0, false);
        }
        let accessed = trail
            .iter()
            .filter(|step| step.entry & ACCESSED == 0)
            .fold(0, |levels, step| levels | 1 << (step.level - 1));
        (accessed, self.needs(access).contains(Rights::WRITE) && leaf & DIRTY == 0)
    }
}

/// What comes of looking at the rights.
enum Permission {
    Allowed,
    Via(Via),
    Denied,
    /// No usable sub-page permissions.
    SubPage {
        miss: bool,
    },
}

/// 31.3.4: bit 2n of the vector allows writes to sub-page n, odd bits are reserved.
fn sub_page(gpa: u64, vector: Option<u64>) -> Permission {
    const RESERVED: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let Some(vector) = vector else { return Permission::SubPage { miss: true } };
    if vector & RESERVED != 0 {
        return Permission::SubPage { miss: false };
    }
    if vector >> (2 * (gpa >> 7 & 0x1f)) & 1 == 0 {
        return Permission::Denied;
    }
    Permission::Via(Via::SubPage)
}
