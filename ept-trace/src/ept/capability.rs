//! What the CPU's EPT can do: MSR 0x48c, SDM Vol. 3D appendix A.10.

/// IA32_VMX_EPT_VPID_CAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EptCapability(pub u64);

impl EptCapability {
    /// An entry may allow execution and not reads.
    pub const EXECUTE_ONLY: u64 = 1 << 0;
    /// Walks of 4 levels.
    pub const WALK_4: u64 = 1 << 6;
    /// Walks of 5 levels.
    pub const WALK_5: u64 = 1 << 7;
    /// The tables may be uncacheable.
    pub const UNCACHEABLE: u64 = 1 << 8;
    /// The tables may be write-back.
    pub const WRITE_BACK: u64 = 1 << 14;
    /// Pages of 2 MiB.
    pub const PAGE_2M: u64 = 1 << 16;
    /// Pages of 1 GiB.
    pub const PAGE_1G: u64 = 1 << 17;
    /// Accessed and dirty flags.
    pub const ACCESSED_DIRTY: u64 = 1 << 21;
    /// Bits 11:9 of the exit qualification of an EPT violation.
    pub const ADVANCED_EXIT_INFORMATION: u64 = 1 << 22;
    /// Supervisor shadow-stack control.
    pub const SHADOW_STACK: u64 = 1 << 23;

    /// Whether it has this, one of the constants.
    pub const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}
