//! VMX: the VMCS, VMLAUNCH and VMRESUME. Sections are of the SDM Vol. 3C, by title, for their
//! numbers change from one edition to the next.

pub mod capabilities;
mod fields;

use core::arch::asm;

use self::capabilities::{Controls, ept_pointer, revision};
use self::fields::{
    ENTRY_CONTROLS, EPT_POINTER, EXCEPTION_BITMAP, EXIT_CONTROLS, EXIT_QUALIFICATION, EXIT_REASON,
    GUEST_ACCESS_RIGHTS, GUEST_BASES, GUEST_CR0, GUEST_CR3, GUEST_CR4, GUEST_DR7, GUEST_LIMITS,
    GUEST_PHYSICAL_ADDRESS, GUEST_RFLAGS, GUEST_RIP, GUEST_SELECTORS, HOST_CR0, HOST_CR3, HOST_CR4,
    HOST_RIP, HOST_RSP, HOST_SELECTORS, INSTRUCTION_ERROR, PIN_BASED_CONTROLS, PRIMARY_CONTROLS,
    SECONDARY_CONTROLS, SEGMENTS, VMCS_LINK_POINTER, ZERO_CONTROLS, ZERO_GUEST_STATE,
    ZERO_HOST_STATE,
};
use crate::cpu;
use crate::frames::{Frames, Page};
use crate::hypervisor::{Exit, Registers, Start, Vcpu};
use crate::protocol::Outcome;

/// Basic exit reasons, Vol. 3D Appendix C.
const EXIT_HLT: u64 = 12;
const EXIT_EPT_VIOLATION: u64 = 48;

/// Selectors of L1 and L2: code, data, and a task register, which may not be 0 in L1.
const CODE: u64 = 0x8;
const DATA: u64 = 0x10;
const TASK: u64 = 0x18;
/// Access rights, "Guest Register State": 64-bit code; data; unusable; a busy 64-bit TSS.
const CODE_RIGHTS: u64 = 0xa09b;
const DATA_RIGHTS: u64 = 0xc093;
const UNUSABLE: u64 = 1 << 16;
const TASK_RIGHTS: u64 = 0x8b;
/// ES, CS, SS, DS, FS, GS, LDTR, TR of L2: selector, limit, access rights.
const L2_SEGMENTS: [(u64, u64, u64); SEGMENTS] = [
    (DATA, 0xffff_ffff, DATA_RIGHTS),
    (CODE, 0xffff_ffff, CODE_RIGHTS),
    (DATA, 0xffff_ffff, DATA_RIGHTS),
    (DATA, 0xffff_ffff, DATA_RIGHTS),
    (DATA, 0xffff_ffff, DATA_RIGHTS),
    (DATA, 0xffff_ffff, DATA_RIGHTS),
    (0, 0, UNUSABLE),
    (TASK, 0x67, TASK_RIGHTS),
];
/// ES, CS, SS, DS, FS, GS, TR of L1 after an exit.
const L1_SELECTORS: [u64; 7] = [DATA, CODE, DATA, DATA, DATA, DATA, TASK];

/// A CPU in VMX operation, with a current VMCS.
pub struct Vmx {
    secondary: u32,
    is_launched: bool,
}

impl Vmx {
    /// Sets it up to run L2 from its start.
    pub fn new(levels: u64, root: u64, start: Start, frames: &mut Frames) -> Result<Self, Outcome> {
        let controls = Controls::new()?;
        let eptp = ept_pointer(root, levels)?;
        // SAFETY: CR4.VMXE changes no paging; IA32_FEATURE_CONTROL allows VMXON, as `check` has
        // set it; the two regions are used for nothing else.
        unsafe {
            cpu::set_cr4(cpu::cr4() | cpu::CR4_VMXE);
            if vmxon(region(frames)) != 0 {
                // Outside of VMX operation there is no error to read: VMREAD is #UD.
                return Err(Outcome::VmxFailed { error: 0 });
            }
            let vmcs = region(frames);
            succeeded(vmclear(vmcs))?;
            succeeded(vmptrld(vmcs))?;
        }
        write_controls(&controls, eptp)?;
        write_l2_state(start)?;
        write_l1_state()?;
        Ok(Self { secondary: controls.secondary, is_launched: false })
    }

    /// Has the next run start L2 anew, by the tables that this EPTP leads to, with nothing cached
    /// of any, with these secondary controls beside the usual ones, and all its exceptions exit.
    pub fn restart(&mut self, eptp: u64, secondary: u32, start: Start) -> Result<(), Outcome> {
        vmwrite(EXCEPTION_BITMAP, u32::MAX.into())?;
        vmwrite(SECONDARY_CONTROLS, (self.secondary | secondary).into())?;
        vmwrite(EPT_POINTER, eptp)?;
        vmwrite(GUEST_CR3, start.cr3)?;
        vmwrite(GUEST_RIP, start.rip)?;
        vmwrite(GUEST_RFLAGS, 2)?;
        invept_all()
    }
}

/// The address of a VMXON region or a VMCS, with the revision identifier in its first word.
fn region(frames: &mut Frames) -> u64 {
    let page: &mut Page = frames.page();
    page.0[0] = u64::from(revision());
    page.address()
}

fn write_controls(controls: &Controls, eptp: u64) -> Result<(), Outcome> {
    vmwrite_zeros(&ZERO_CONTROLS)?;
    vmwrite(PIN_BASED_CONTROLS, controls.pin_based.into())?;
    vmwrite(PRIMARY_CONTROLS, controls.primary.into())?;
    vmwrite(SECONDARY_CONTROLS, controls.secondary.into())?;
    vmwrite(EXIT_CONTROLS, controls.exit.into())?;
    vmwrite(ENTRY_CONTROLS, controls.entry.into())?;
    vmwrite(EPT_POINTER, eptp)
}

fn write_l2_state(start: Start) -> Result<(), Outcome> {
    vmwrite_zeros(&ZERO_GUEST_STATE)?;
    for (offset, (selector, limit, rights)) in (0..).step_by(2).zip(L2_SEGMENTS) {
        vmwrite(GUEST_SELECTORS + offset, selector)?;
        vmwrite(GUEST_LIMITS + offset, limit)?;
        vmwrite(GUEST_ACCESS_RIGHTS + offset, rights)?;
        vmwrite(GUEST_BASES + offset, 0)?;
    }
    vmwrite(VMCS_LINK_POINTER, u64::MAX)?;
    vmwrite(GUEST_CR0, cpu::cr0())?;
    vmwrite(GUEST_CR3, start.cr3)?;
    vmwrite(GUEST_CR4, cpu::cr4())?;
    vmwrite(GUEST_DR7, 1 << 10)?;
    vmwrite(GUEST_RIP, start.rip)?;
    vmwrite(GUEST_RFLAGS, 2)
}

/// What an exit restores; RSP and RIP are written before each entry.
fn write_l1_state() -> Result<(), Outcome> {
    vmwrite_zeros(&ZERO_HOST_STATE)?;
    for (offset, selector) in (0..).step_by(2).zip(L1_SELECTORS) {
        vmwrite(HOST_SELECTORS + offset, selector)?;
    }
    vmwrite(HOST_CR0, cpu::cr0())?;
    vmwrite(HOST_CR3, cpu::cr3())?;
    vmwrite(HOST_CR4, cpu::cr4())
}

impl Vcpu for Vmx {
    fn run(&mut self, registers: &mut Registers) -> Result<Exit, Outcome> {
        let failed: u8;
        // SAFETY: the VMCS is whole, and an exit comes to label 2 with this stack. L2 uses no
        // registers but these. A failed entry leaves CF or ZF set, an exit neither.
        unsafe {
            asm!(
                "vmwrite {host_rsp}, rsp",
                "lea {scratch}, [rip + 2f]",
                "vmwrite {host_rip}, {scratch}",
                "test {launched}, {launched}",
                "jnz 3f",
                "vmlaunch",
                "jmp 2f",
                "3: vmresume",
                "2: setna {failed}",
                host_rsp = in(reg) HOST_RSP,
                host_rip = in(reg) HOST_RIP,
                launched = in(reg_byte) u8::from(self.is_launched),
                scratch = out(reg) _,
                failed = lateout(reg_byte) failed,
                inout("rax") registers.rax,
                inout("rcx") registers.rcx,
                inout("rdi") registers.rdi,
            );
        }
        if failed != 0 {
            return Err(Outcome::EntryFailed { error: vmread(INSTRUCTION_ERROR) });
        }
        self.is_launched = true;
        let [reason, qualification, gpa] =
            [EXIT_REASON, EXIT_QUALIFICATION, GUEST_PHYSICAL_ADDRESS].map(vmread);
        Ok(match reason {
            EXIT_HLT => Exit::Halt,
            EXIT_EPT_VIOLATION => Exit::Violation { gpa, qualification },
            _ => Exit::Other { reason, qualification, gpa },
        })
    }
}

macro_rules! instructions_on_regions {
    ($($name:ident)*) => {$(
        #[doc = concat!(stringify!($name), " on the region at this address; not 0 if it fails.")]
        ///
        /// # Safety
        ///
        /// The region must be used for nothing else.
        unsafe fn $name(region: u64) -> u8 {
            let failed: u8;
            // SAFETY: the caller's.
            unsafe {
                asm!(
                    concat!(stringify!($name), " [{region}]"),
                    "setna {failed}",
                    region = in(reg) &raw const region,
                    failed = lateout(reg_byte) failed,
                    options(nostack),
                );
            }
            failed
        }
    )*};
}
instructions_on_regions!(vmxon vmclear vmptrld);

/// INVEPT of everything, for all EPTPs: "Operations that Invalidate Cached Mappings".
fn invept_all() -> Result<(), Outcome> {
    const GLOBAL: u64 = 2;
    let descriptor = [0_u64; 2];
    let failed: u8;
    // SAFETY: forgets mappings, which are made anew.
    unsafe {
        asm!(
            "invept {kind}, [{descriptor}]",
            "setna {failed}",
            kind = in(reg) GLOBAL,
            descriptor = in(reg) &raw const descriptor,
            failed = lateout(reg_byte) failed,
            options(nostack),
        );
    }
    succeeded(failed)
}

/// Writes a field of the VMCS.
pub fn vmwrite(field: u64, value: u64) -> Result<(), Outcome> {
    let failed: u8;
    // SAFETY: the VMCS is only data until VMLAUNCH or VMRESUME.
    unsafe {
        asm!(
            "vmwrite {field}, {value}",
            "setna {failed}",
            field = in(reg) field,
            value = in(reg) value,
            failed = lateout(reg_byte) failed,
            options(nostack),
        );
    }
    succeeded(failed)
}

fn vmwrite_zeros(fields: &[u64]) -> Result<(), Outcome> {
    fields.iter().try_for_each(|field| vmwrite(*field, 0))
}

/// Reads a field; 0 if there is no current VMCS, or no such field in it.
pub fn vmread(field: u64) -> u64 {
    let mut value = 0;
    // SAFETY: reading changes nothing. If it fails, the destination is left alone.
    unsafe {
        asm!("vmread {value}, {field}", field = in(reg) field, value = inout(reg) value, options(nostack));
    }
    value
}

/// What an instruction of VMX leaves in CF and ZF, as `setna` puts it: "Conventions".
fn succeeded(failed: u8) -> Result<(), Outcome> {
    if failed == 0 { Ok(()) } else { Err(Outcome::VmxFailed { error: vmread(INSTRUCTION_ERROR) }) }
}
