//! The fields of the VMCS that L1 uses: SDM Vol. 3D Appendix B, by encoding. Sections are of
//! Vol. 3C.

// "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields".
pub const PIN_BASED_CONTROLS: u64 = 0x4000;
pub const PRIMARY_CONTROLS: u64 = 0x4002;
pub const SECONDARY_CONTROLS: u64 = 0x401e;
pub const EXIT_CONTROLS: u64 = 0x400c;
pub const ENTRY_CONTROLS: u64 = 0x4012;
pub const EPT_POINTER: u64 = 0x201a;
pub const EXCEPTION_BITMAP: u64 = 0x4004;
/// Controls that are 0: exception bitmap, page-fault error-code mask and match, CR3-target count,
/// counts of MSRs to store and load at exits and entries, event to inject, and the masks of CR0
/// and CR4.
pub const ZERO_CONTROLS: [u64; 10] =
    [EXCEPTION_BITMAP, 0x4006, 0x4008, 0x400a, 0x400e, 0x4010, 0x4014, 0x4016, 0x6000, 0x6002];

// "Guest-State Area". The segments are ES, CS, SS, DS, FS, GS, LDTR, TR, in this order.
pub const SEGMENTS: usize = 8;
pub const GUEST_SELECTORS: u64 = 0x0800;
pub const GUEST_LIMITS: u64 = 0x4800;
pub const GUEST_ACCESS_RIGHTS: u64 = 0x4814;
pub const GUEST_BASES: u64 = 0x6806;
pub const VMCS_LINK_POINTER: u64 = 0x2800;
pub const GUEST_CR0: u64 = 0x6800;
pub const GUEST_CR3: u64 = 0x6802;
pub const GUEST_CR4: u64 = 0x6804;
pub const GUEST_DR7: u64 = 0x681a;
pub const GUEST_RIP: u64 = 0x681e;
pub const GUEST_RFLAGS: u64 = 0x6820;
/// Guest state that is 0: IA32_DEBUGCTL, the limits and bases of GDTR and IDTR, interruptibility,
/// activity, the three SYSENTER registers, RSP, pending debug exceptions.
pub const ZERO_GUEST_STATE: [u64; 12] = [
    0x2802, 0x4810, 0x4812, 0x6816, 0x6818, 0x4824, 0x4826, 0x482a, 0x6824, 0x6826, 0x681c, 0x6822,
];

// "Host-State Area".
/// ES, CS, SS, DS, FS, GS, TR, in this order.
pub const HOST_SELECTORS: u64 = 0x0c00;
pub const HOST_CR0: u64 = 0x6c00;
pub const HOST_CR3: u64 = 0x6c02;
pub const HOST_CR4: u64 = 0x6c04;
pub const HOST_RSP: u64 = 0x6c14;
pub const HOST_RIP: u64 = 0x6c16;
/// Host state that is 0: the bases of FS, GS, TR, GDTR and IDTR, and the SYSENTER registers.
pub const ZERO_HOST_STATE: [u64; 8] =
    [0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x4c00];

// "VM-Exit Information Fields".
pub const INSTRUCTION_ERROR: u64 = 0x4400;
pub const EXIT_REASON: u64 = 0x4402;
pub const EXIT_QUALIFICATION: u64 = 0x6400;
pub const GUEST_PHYSICAL_ADDRESS: u64 = 0x2400;
