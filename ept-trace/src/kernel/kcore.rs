//! Values of kernel variables, `/proc/kcore`: an ELF core whose segments are kernel memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Enough for the ELF header and the program headers of any machine.
const HEADERS: usize = 64 << 10;

/// Kernel memory, readable by address.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    /// Start address, length, and place in the file.
    segments: Vec<(u64, u64, u64)>,
}

impl Kcore {
    /// Opens `/proc/kcore`.
    ///
    /// # Errors
    ///
    /// Where the kernel has none (`CONFIG_PROC_KCORE`), lockdown forbids it, or `CAP_SYS_RAWIO`
    /// is missing.
    pub fn open() -> Result<Self> {
        let path = "/proc/kcore";
        let file = File::open(path).context(path)?;
        let mut headers = vec![0; HEADERS];
        let length = file.read_at(&mut headers, 0).context(path)?;
        headers.truncate(length);
        let header = FileHeader64::<Endianness>::parse(&*headers).context(path)?;
        let endian = header.endian().context(path)?;
        let segments = header
            .program_headers(endian, &*headers)
            .context(path)?
            .iter()
            .filter(|segment| segment.p_type(endian) == PT_LOAD)
            .map(|segment| {
                (segment.p_vaddr(endian), segment.p_memsz(endian), segment.p_offset(endian))
            })
            .collect();
        Ok(Self { file, segments })
    }

    /// Reads `N` bytes at a kernel address.
    ///
    /// # Errors
    ///
    /// If no segment has the address, or reading fails.
    pub fn read<const N: usize>(&self, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from a kernel address on.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let needed = bytes.len() as u64;
        let segment = self.segments.iter().find(|(start, length, _)| {
            address >= *start && needed <= *length && address - start <= length - needed
        });
        let Some((start, _, offset)) = segment else {
            bail!("/proc/kcore has no segment for {address:#x}");
        };
        self.file.read_exact_at(bytes, offset + (address - start)).context("/proc/kcore")
    }
}
