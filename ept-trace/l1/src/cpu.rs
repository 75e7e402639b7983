//! Registers of the CPU that both vendors have.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

/// What the CPU can run guests with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Virtualization {
    /// CPUID.1:ECX.VMX: SDM Vol. 3C, "Discovering Support for VMX".
    Vmx,
    /// CPUID Fn8000_0001_ECX\[SVM\]: APM Vol. 2 §15.4.
    Svm,
}

/// What this CPU has, if any.
pub fn virtualization() -> Option<Virtualization> {
    if __cpuid(1).ecx & 1 << 5 != 0 {
        Some(Virtualization::Vmx)
    } else if __cpuid(0x80000001).ecx & 1 << 2 != 0 {
        Some(Virtualization::Svm)
    } else {
        None
    }
}

/// CR4.LA57: paging of five levels.
pub const CR4_LA57: u64 = 1 << 12;
/// CR4.VMXE: VMX operation.
pub const CR4_VMXE: u64 = 1 << 13;

macro_rules! control_registers {
    ($($read:ident $name:literal),*) => {$(
        #[doc = concat!("Reads ", $name, ".")]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading changes nothing; L1 is in ring 0.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack)) };
            value
        }
    )*};
}
control_registers!(cr0 "cr0", cr3 "cr3", cr4 "cr4");

/// Writes CR4.
///
/// # Safety
///
/// The paging mode must stay as it is.
pub unsafe fn set_cr4(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack)) };
}

/// Reads an MSR.
///
/// # Safety
///
/// The CPU must have it.
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's; ring 0.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
///
/// The CPU must have it, and what the write changes must be sound.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    let [low, high] = [value as u32, (value >> 32) as u32];
    // SAFETY: the caller's; ring 0.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) };
}
