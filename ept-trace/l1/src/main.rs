//! The program that runs as L1. For any target but `x86_64-unknown-none` it is empty, so that the
//! whole workspace can be checked with one command.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod bare {
    use core::panic::PanicInfo;

    use ept_trace_l1::protocol::{Params, Report};

    /// Where `check` starts the vCPU: in 64-bit mode with a stack, the first GiB mapped to
    /// itself, and the addresses of these two in RDI and RSI.
    // SAFETY: the name is that of the linker script; nothing else has it.
    #[unsafe(no_mangle)]
    extern "sysv64" fn entry(params: &Params, report: &mut Report) -> ! {
        // SAFETY: ring 0, with all memory beyond the image and the stack unused.
        *report = unsafe { ept_trace_l1::run(params) }.into();
        halt()
    }

    fn halt() -> ! {
        loop {
            // SAFETY: ends the guest; `check` looks at the report then.
            unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
        }
    }

    #[panic_handler]
    fn panic(_info: &PanicInfo<'_>) -> ! {
        // The report still says `Unfinished`.
        halt()
    }
}
