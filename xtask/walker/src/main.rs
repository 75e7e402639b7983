//! The program that walks. For any target but `x86_64-unknown-none` it is empty, so that the whole
//! workspace can be checked with one command.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod bare {
    use core::arch::global_asm;
    use core::fmt::Write;
    use core::panic::PanicInfo;

    use walker::Serial;
    use walker::protocol::FAILURE;

    global_asm!(include_str!("boot.s"));

    /// Where the header of Linux's boot protocol has the initramfs: address and size.
    const RAMDISK: usize = 0x218;

    /// Where `boot.s` comes to, with the address of that header.
    // SAFETY: nothing else has the name.
    #[unsafe(no_mangle)]
    extern "sysv64" fn start(header: u64) {
        let header: *const u8 = core::ptr::with_exposed_provenance(header as usize);
        // SAFETY: the boot loader has put both there, below 1 GiB, which is mapped to itself; where
        // it puts the initramfs is high in memory, and the cases' memory is low.
        unsafe {
            let [address, size] = header.add(RAMDISK).cast::<[u32; 2]>().read_unaligned();
            let cases: *const u8 = core::ptr::with_exposed_provenance(address as usize);
            walker::run(core::slice::from_raw_parts(cases, size as usize), &mut Serial::new());
        }
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let mut serial = Serial::new();
        serial.words(&[FAILURE]);
        // It cannot fail.
        let _ = writeln!(serial, "{info}");
        loop {
            // SAFETY: ends the program.
            unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
        }
    }
}
