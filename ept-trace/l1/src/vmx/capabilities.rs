//! What VMX offers, by its capability MSRs: SDM Vol. 3D Appendix A. Sections by title are of
//! Vol. 3C.

use crate::cpu::rdmsr;
use crate::protocol::{Missing, Outcome};

/// IA32_VMX_BASIC: A.1.
const BASIC: u32 = 0x480;
/// The allowed settings of the pin-based, primary, exit and entry controls: A.3 to A.5.
const CONTROLS: [u32; 4] = [0x481, 0x482, 0x483, 0x484];
/// The same without those that are 1 only by default: A.2.
const TRUE_CONTROLS: [u32; 4] = [0x48d, 0x48e, 0x48f, 0x490];
/// IA32_VMX_PROCBASED_CTLS2: A.3.3.
pub const SECONDARY: u32 = 0x48b;
/// IA32_VMX_EPT_VPID_CAP: A.10.
pub const EPT_VPID: u32 = 0x48c;

/// "Processor-Based VM-Execution Controls", primary: HLT exiting, and activate secondary controls.
const HLT_EXITING: u32 = 1 << 7;
const ACTIVATE_SECONDARY: u32 = 1 << 31;
/// The same, secondary: enable EPT.
const ENABLE_EPT: u32 = 1 << 1;
/// "VM-Exit Controls": L1 is in 64-bit mode.
const HOST_ADDRESS_SPACE_SIZE: u32 = 1 << 9;
/// "VM-Entry Controls": L2 is in IA-32e mode.
const IA32E_MODE_GUEST: u32 = 1 << 9;

/// IA32_VMX_EPT_VPID_CAP: page walks of 4 and of 5 levels, write-back, 2-MiB pages, accessed and
/// dirty flags.
const WALK_4: u64 = 1 << 6;
const WALK_5: u64 = 1 << 7;
const WRITE_BACK: u64 = 1 << 14;
const LARGE_PAGES: u64 = 1 << 16;
const ACCESSED_DIRTY: u64 = 1 << 21;

/// The VMX controls for L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Pin-based.
    pub pin_based: u32,
    /// Primary processor-based.
    pub primary: u32,
    /// Secondary processor-based.
    pub secondary: u32,
    /// VM-exit.
    pub exit: u32,
    /// VM-entry.
    pub entry: u32,
}

/// The VMCS revision identifier: A.1.
pub fn revision() -> u32 {
    // SAFETY: a CPU with VMX has it.
    unsafe { rdmsr(BASIC) as u32 & 0x7fff_ffff }
}

impl Controls {
    /// Those that L2 needs, and beyond them only what must be set.
    pub fn new() -> Result<Self, Outcome> {
        // SAFETY: a CPU with VMX has it.
        let has_true_controls = unsafe { rdmsr(BASIC) } & 1 << 55 != 0;
        let [pin_based, primary, exit, entry] =
            if has_true_controls { TRUE_CONTROLS } else { CONTROLS };
        let primary = adjust(primary, HLT_EXITING | ACTIVATE_SECONDARY);
        if primary & ACTIVATE_SECONDARY == 0 {
            return Err(Outcome::NotOffered(Missing::NestedPaging));
        }
        let secondary = adjust(SECONDARY, ENABLE_EPT);
        if secondary & ENABLE_EPT == 0 {
            return Err(Outcome::NotOffered(Missing::NestedPaging));
        }
        Ok(Self {
            pin_based: adjust(pin_based, 0),
            primary,
            secondary,
            exit: adjust(exit, HOST_ADDRESS_SPACE_SIZE),
            entry: adjust(entry, IA32E_MODE_GUEST),
        })
    }
}

/// Those of the wanted controls that may be 1 (the upper half of the register), and those that
/// must be (the lower half): A.3 to A.5.
fn adjust(msr: u32, wanted: u32) -> u32 {
    // SAFETY: a CPU with VMX has those of the controls; that of the secondary ones is read only
    // where these can be activated.
    let allowed = unsafe { rdmsr(msr) };
    (wanted | allowed as u32) & (allowed >> 32) as u32
}

/// The EPTP for tables of so many levels: "Extended-Page-Table Pointer (EPTP)". Only for CPUs with
/// EPT.
pub fn ept_pointer(root: u64, levels: u64) -> Result<u64, Outcome> {
    // SAFETY: a CPU with EPT has it.
    let offered = unsafe { rdmsr(EPT_VPID) };
    let walk = if levels == 5 { WALK_5 } else { WALK_4 };
    for (bit, missing) in [
        (walk, Missing::Levels),
        (WRITE_BACK, Missing::WriteBack),
        (LARGE_PAGES, Missing::LargePages),
    ] {
        if offered & bit == 0 {
            return Err(Outcome::NotOffered(missing));
        }
    }
    let accessed_dirty = if offered & ACCESSED_DIRTY == 0 { 0 } else { 1 << 6 };
    // Memory type write-back, and one less than the length of the walk.
    Ok(root | accessed_dirty | (levels - 1) << 3 | 6)
}
