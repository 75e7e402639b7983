//! The access that is to be translated.

/// What the access does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A data read.
    #[default]
    Read,
    /// A data write.
    Write,
    /// A read-modify-write: whether it is reported as a read as well is up to the model.
    ReadModifyWrite,
    /// An instruction fetch.
    Fetch,
}

/// On whose behalf the guest-physical address is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The address that a linear address translates to.
    #[default]
    Final,
    /// The guest's paging structures are read. [`Access::kind`] does not count.
    GuestTableRead,
    /// An accessed or dirty flag of the guest's paging structures is set. [`Access::kind`] does
    /// not count.
    GuestTableUpdate,
    /// MOV to CR loads the PDPTEs: always a read, and without a linear address.
    PdpteLoad,
    /// Not by an instruction: Processor Trace, PEBS, user-interrupt delivery.
    Asynchronous,
}

impl Stage {
    /// Whether the guest's paging structures are accessed by a walk of them.
    pub(super) const fn is_guest_table(self) -> bool {
        matches!(self, Stage::GuestTableRead | Stage::GuestTableUpdate)
    }

    /// Whether it is the access itself and not one on the way to it.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Stage::Final | Stage::Asynchronous)
    }
}

/// A shadow-stack access, by the mode it is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowStack {
    /// Subject to the ordinary rules.
    User,
    /// Subject to supervisor shadow-stack control.
    Supervisor,
}

/// What the guest's own paging says of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestLeaf {
    /// U/S is 1 in every entry: a user-mode address.
    pub user: bool,
    /// R/W is 1 in every entry.
    pub writable: bool,
    /// XD is 1 in some entry.
    pub nx: bool,
}

/// An access to a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, most are rarely set")]
pub struct Access {
    /// What it does.
    pub kind: Kind,
    /// On whose behalf.
    pub stage: Stage,
    /// Whether there is a linear address: not for Processor Trace output nor for architectural PEBS.
    pub gla_valid: bool,
    /// Whether the linear address is a user-mode one, which is not the same as CPL 3.
    pub user: bool,
    /// Guest CR0.PG. Without paging every address is a user-mode one.
    pub paging: bool,
    /// Whether it accesses a shadow stack.
    pub shadow_stack: Option<ShadowStack>,
    /// What the guest's own paging says of the page, where it is known.
    pub guest_leaf: Option<GuestLeaf>,
    /// Whether all EPT leaves that the guest's paging structures were read through have bit 58
    /// (paging-write). True if it does not matter.
    pub guest_tables_all_paging_write: bool,
    /// The sub-page permission vector of the page; `None` if the SPP table has none.
    pub spp_vector: Option<u64>,
    /// Whether sub-page permissions never apply: transactional, enclave and PEBS writes.
    pub spp_exempt: bool,
    /// Whether an IRET that unblocks NMIs makes the access.
    pub iret_nmi_unblock: bool,
    /// Whether event delivery makes the access.
    pub event_delivery: bool,
}

impl Access {
    /// A data read by the supervisor at a linear address.
    pub const READ: Access = Access {
        kind: Kind::Read,
        stage: Stage::Final,
        gla_valid: true,
        user: false,
        paging: true,
        shadow_stack: None,
        guest_leaf: None,
        guest_tables_all_paging_write: true,
        spp_vector: None,
        spp_exempt: false,
        iret_nmi_unblock: false,
        event_delivery: false,
    };
    /// A data write by the supervisor at a linear address.
    pub const WRITE: Access = Access { kind: Kind::Write, ..Access::READ };
    /// An instruction fetch from a supervisor-mode linear address.
    pub const FETCH: Access = Access { kind: Kind::Fetch, ..Access::READ };

    /// Whether the linear address is a user-mode one (SDM 31.3.3.2).
    pub(super) const fn is_user(&self) -> bool {
        self.user || !self.paging
    }

    /// Whether it writes data of its own, guest paging structures apart.
    pub(super) const fn is_data_write(&self) -> bool {
        self.stage.is_final() && matches!(self.kind, Kind::Write | Kind::ReadModifyWrite)
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::READ
    }
}
