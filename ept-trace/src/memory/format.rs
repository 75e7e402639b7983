//! What a file is, by its first bytes.

use super::bytes::{Bytes, head};
use super::error::Trouble;
use super::extents::Extents;
use super::flattened::{self, Flattened};
use super::kdump::{self, Kdump};
use super::{Layout, elf, lime, raw};

/// What a file turned out to be.
pub struct Found {
    pub name: &'static str,
    /// The bytes that the layout speaks of: the file's, or those that a flattened one stands for.
    pub bytes: Box<dyn Bytes>,
    pub layout: Layout,
    pub notes: Vec<String>,
}

/// Files that are no dump of memory that could be walked: their first bytes, what they are, and
/// what to do.
const REFUSED: &[(&[u8], &str)] = &[
    (
        b"LibvirtQemudSave",
        "libvirt's save image is a migration stream, and no memory dump: restore it paused \
         (`virsh restore --paused FILE`), then `virsh dump --memory-only DOMAIN DUMP`",
    ),
    (
        b"LibvirtQemudPart",
        "libvirt's save image is a migration stream, and this one was not even finished: use \
         `virsh dump --memory-only DOMAIN DUMP`",
    ),
    (
        b"QEVM",
        "QEMU's migration stream is no memory dump: load it paused (`-incoming`, `-S`), then \
         `dump-guest-memory DUMP`",
    ),
    (b"QFI\xfb", "a qcow2 disk image, and no memory dump: use QEMU's `dump-guest-memory DUMP`"),
    (b"AVML", "AVML's own format: convert it to LiME with `avml-convert FILE DUMP`"),
    (
        b"DISKDUMP",
        "diskdump's format, of kernels before KVM: use kdump's, or QEMU's `dump-guest-memory DUMP`",
    ),
    (b"PAGEDU", "a dump of Windows: use QEMU's `dump-guest-memory DUMP`, without -w"),
    (b"\x1f\x8b\x08", "compressed with gzip: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
];

/// A raw dump that reaches so far may have had a hole below 4 GiB: QEMU's q35 begins it here.
const LOWEST_HOLE: u64 = 2 << 30;

/// Finds what a file is. A map is for a raw one alone.
pub fn find(bytes: Box<dyn Bytes>, map: Option<Extents>) -> Result<Found, Trouble> {
    let start = head::<32>(&*bytes)?;
    let size = bytes.size();
    if size == 0 {
        return Err(Trouble::Refused("an empty file".to_owned()));
    }
    if let Some((_, what)) = REFUSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Trouble::Refused((*what).to_owned()));
    }
    if start.starts_with(flattened::MAGIC) {
        return unflatten(bytes, map.is_some());
    }
    match (Kind::of(&start), map) {
        (Some(kind), None) => kind.read(bytes),
        (Some(kind), Some(_)) => Err(has_own_map(kind.name())),
        (None, Some(extents)) => Ok(of_extents("raw, with a map", bytes, extents)),
        (None, None) => {
            let mut found = of_extents("raw", bytes, raw::from_zero(size)?);
            found.notes.push(
                "taken for raw memory from address 0 up, as it has the mark of no other format"
                    .to_owned(),
            );
            if size > LOWEST_HOLE {
                found.notes.push(
                    "if the machine has a hole below 4 GiB and the file does not, what is above \
                     it is found with --map only"
                        .to_owned(),
                );
            }
            Ok(found)
        }
    }
}

fn has_own_map(name: &str) -> Trouble {
    Trouble::Refused(format!("{name} says itself where memory is: leave --map out"))
}

/// The formats that say what they are, flattened or not.
#[derive(Clone, Copy)]
enum Kind {
    Elf,
    Kdump,
    Lime,
}

impl Kind {
    fn of(start: &[u8]) -> Option<Self> {
        let kinds =
            [(elf::MAGIC, Self::Elf), (kdump::MAGIC, Self::Kdump), (lime::MAGIC, Self::Lime)];
        kinds.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| kind)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Elf => "ELF core",
            Self::Kdump => "kdump-compressed",
            Self::Lime => "LiME",
        }
    }

    fn read(self, bytes: Box<dyn Bytes>) -> Result<Found, Trouble> {
        let extents = match self {
            Self::Kdump => {
                let layout = Layout::Kdump(Kdump::new(&*bytes)?);
                return Ok(Found { name: self.name(), bytes, layout, notes: Vec::new() });
            }
            Self::Elf => elf::extents(&*bytes)?,
            Self::Lime => lime::extents(&*bytes)?,
        };
        Ok(of_extents(self.name(), bytes, extents))
    }
}

fn of_extents(name: &'static str, bytes: Box<dyn Bytes>, mut extents: Extents) -> Found {
    let lost = extents.cut_off_at(bytes.size());
    let mut notes = Vec::new();
    if lost > 0 {
        notes.push(format!(
            "cut off: {lost:#x} bytes of the memory that it should have are past its end"
        ));
    }
    Found { name, bytes, layout: Layout::Extents(extents), notes }
}

fn unflatten(stream: Box<dyn Bytes>, has_map: bool) -> Result<Found, Trouble> {
    let flattened = Flattened::new(stream)?;
    let is_whole = flattened.is_whole();
    let start = head::<32>(&flattened)?;
    let (kind, name) = match Kind::of(&start) {
        Some(kind @ Kind::Kdump) => (kind, "kdump-compressed, flattened"),
        Some(kind @ Kind::Elf) => (kind, "ELF core, flattened"),
        _ => {
            let what = "a flattened dump of no known format: kdump-compressed and ELF are";
            return Err(Trouble::bad(flattened.offset_in_file(0), what));
        }
    };
    if has_map {
        return Err(has_own_map(name));
    }
    let mut found = kind.read(Box::new(flattened))?;
    found.name = name;
    if !is_whole {
        found.notes.push("cut off: the stream has no end, and what it lacks is missing".to_owned());
    }
    Ok(found)
}
