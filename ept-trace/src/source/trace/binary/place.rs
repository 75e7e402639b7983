//! Where a number is in an event.

use crate::source::trace::format::{BadFormat, Format};

/// Where a number is in an event, and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    offset: u16,
    size: Size,
}

#[derive(Clone, Copy, Debug)]
enum Size {
    One,
    Two,
    Four,
    Eight,
}

impl Place {
    /// The place of a number that all kernels have.
    pub fn of(format: &Format, name: &'static str) -> Result<Self, BadFormat> {
        Self::of_any(format, name)?
            .ok_or_else(|| BadFormat::NoNumber { event: format.event(), field: name })
    }

    /// The place of a number that some kernels have.
    pub fn of_any(format: &Format, name: &'static str) -> Result<Option<Self>, BadFormat> {
        let Some(field) = format.field(name) else { return Ok(None) };
        let size = match field.size {
            1 => Size::One,
            2 => Size::Two,
            4 => Size::Four,
            8 => Size::Eight,
            _ => return Err(BadFormat::NoNumber { event: format.event(), field: name }),
        };
        Ok(Some(Self { offset: field.offset, size }))
    }

    /// The number, without its sign; `None` if the event ends before.
    #[inline]
    pub fn u64(self, event: &[u8]) -> Option<u64> {
        let at = event.get(usize::from(self.offset)..)?;
        Some(match self.size {
            Size::One => u64::from(*at.first()?),
            Size::Two => u64::from(u16::from_le_bytes(*at.first_chunk()?)),
            Size::Four => u64::from(u32::from_le_bytes(*at.first_chunk()?)),
            Size::Eight => u64::from_le_bytes(*at.first_chunk()?),
        })
    }

    /// The number, if it fits.
    #[inline]
    pub fn u32(self, event: &[u8]) -> Option<u32> {
        self.u64(event)?.try_into().ok()
    }

    /// The number, if it fits.
    #[inline]
    pub fn u8(self, event: &[u8]) -> Option<u8> {
        self.u64(event)?.try_into().ok()
    }

    /// The `bool`, if it is one.
    #[inline]
    pub fn bool(self, event: &[u8]) -> Option<bool> {
        match self.u64(event)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}
