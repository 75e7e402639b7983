//! L2: a program in 64-bit mode that writes marks to places of its memory, and halts.

use core::ops::Range;

use crate::frames::{Frames, LARGE, PAGE};
use crate::hypervisor::{Registers, Start};
use crate::protocol::{LARGE_PAGE, Outcome};
use crate::tables::{Format, Size, Tables};

/// How far L2's GPAs of its code and page tables are from L1's: 1 GiB.
const SHIFT: u64 = 1 << 30;
/// How many pages its code and page tables may have.
pub const OWN_PAGES: u64 = 16;
/// The linear address of the code, where L2 starts.
const CODE: u64 = 0x40_0000;
/// The linear address of the page with the first mark; that of the next is a page further.
const MARKS: u64 = 0x1_0000;
/// The first mark; the next is one more.
const MARK: u64 = 0x4c32_0000_0000_0001;

/// What L2 runs, with the next mark in RAX, how many are left in RCX, and where it goes in RDI: `1: mov [rdi], rax; inc rax; add rdi, 0x1000; dec rcx; jnz 1b; hlt`. That is RCX
/// marks, the first of which is RAX, each at the begin of a page from RDI.
const PROGRAM: [u8; 19] = [
    0x48, 0x89, 0x07, 0x48, 0xff, 0xc0, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9,
    0x75, 0xee, 0xf4,
];

/// A page that is to be mapped for L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// L2's GPA.
    pub gpa: u64,
    /// L1's GPA.
    pub to: u64,
    /// The size.
    pub size: Size,
}

/// A place for a mark.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// L2's GPA of the mark.
    gpa: u64,
    /// The size of the page that L1 maps there.
    size: Size,
    /// L1's GPA of the mark, once it is mapped.
    at: Option<u64>,
}

/// L2's memory.
pub struct L2 {
    /// L1's GPAs of its code and page tables.
    own: Range<u64>,
    paging: Tables,
    places: [Place; 5],
}

impl L2 {
    /// Lays out its memory; `far` is the last place for a mark, at 4 GiB or above.
    pub fn new(mut own: Frames, far: u64) -> Self {
        let place = |gpa, size| Place { gpa, size, at: None };
        let places = [
            place(0x8000_0000, Size::Small),
            place(0x8000_1000, Size::Small),
            place(0x8020_0000, Size::Small),
            place(0xc012_3000, Size::Large),
            place(far, Size::Small),
        ];
        let code = own.page();
        let start = code.address();
        code.write(&PROGRAM);
        let mut paging = Tables::new(Format::Paging, 4, SHIFT, &mut own);
        paging.map(CODE, start + SHIFT, Size::Small, &mut own);
        for (linear, place) in (MARKS..).step_by(PAGE as usize).zip(&places) {
            paging.map(linear, place.gpa, Size::Small, &mut own);
        }
        Self { own: start..own.next_address(), paging, places }
    }

    /// How it starts.
    pub fn start(&self) -> Start {
        Start { cr3: self.paging.root(), rip: CODE }
    }

    /// The registers that it starts with.
    pub fn registers(&self) -> Registers {
        Registers { rax: MARK, rcx: self.places.len() as u64, rdi: MARKS }
    }

    /// What is to be mapped where L2 faulted, if it has anything there.
    pub fn mapping(&mut self, gpa: u64, frames: &mut Frames) -> Option<Mapping> {
        let own = gpa.wrapping_sub(SHIFT);
        if self.own.contains(&own) {
            let page = !(PAGE - 1);
            return Some(Mapping { gpa: gpa & page, to: own & page, size: Size::Small });
        }
        let begin = |address: u64, size: Size| address & !(size.bytes() - 1);
        let place = self
            .places
            .iter_mut()
            .find(|place| begin(place.gpa, place.size) == begin(gpa, place.size))?;
        let to = match place.size {
            Size::Small => frames.page().address(),
            Size::Large => LARGE_PAGE,
        };
        place.at = Some(to + place.gpa % place.size.bytes());
        Some(Mapping { gpa: begin(gpa, place.size), to, size: place.size })
    }

    /// Whether each mark is where it was mapped to.
    pub fn check(&self) -> Result<(), Outcome> {
        for (place, expected) in self.places.iter().zip(MARK..) {
            let found = place.at.map_or(0, |at| {
                let mark: *const u64 = core::ptr::with_exposed_provenance(at as usize);
                // SAFETY: in a page that was mapped for L2, which has halted.
                unsafe { mark.read_volatile() }
            });
            if found != expected {
                return Err(Outcome::WrongMark { gpa: place.gpa, expected, found });
            }
        }
        Ok(())
    }
}

/// The large page must be where one can be.
const _: () = assert!(LARGE_PAGE.is_multiple_of(LARGE));
