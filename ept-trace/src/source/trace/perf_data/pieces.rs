//! How large the pieces are that `perf record -z` writes as `PERF_RECORD_COMPRESSED2`.
//!
//! perf of Linux 6.16 (208c0e168344) puts the size of the content into each piece, and pads the
//! piece. But it does so once for all that it compressed at a time, as if that were one piece, and
//! the size of a record has 16 bits. So the size of the first piece may be too small by a multiple
//! of 64 KiB, its content then is that of all pieces, nothing is padded, and the other pieces do
//! not have the size of their content. perf itself cannot read such a file; this can.

use super::window::HEADER;

/// `perf_record_compressed2`: the header, and the size of the content.
pub const PIECE_HEADER: usize = HEADER + 8;
/// perf fills a piece up to here before it begins another.
const MOST: usize = 0xffff;

/// A piece; sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// With its header, and what it is padded with.
    pub size: usize,
    /// Of what was compressed.
    pub content: usize,
}

/// Those of a file, one after the other.
#[derive(Debug, Default)]
pub struct Pieces {
    /// So many bytes follow in pieces that were taken for part of the first.
    in_first: usize,
}

impl Pieces {
    /// Whether the next record has to be a piece.
    pub fn go_on(&self) -> bool {
        self.in_first > 0
    }

    /// The next, by the sizes that it tells of itself and of its content. `None` if no perf writes
    /// such a piece.
    pub fn next(&mut self, size: usize, content: u64) -> Option<Piece> {
        if self.in_first > 0 {
            self.in_first = self.in_first.checked_sub(size)?;
            return Some(Piece { size, content: size.checked_sub(PIECE_HEADER)? });
        }
        let content = usize::try_from(content).ok()?;
        let total = content.checked_add(PIECE_HEADER)?;
        if total <= size {
            return Some(Piece { size, content });
        }
        if total.checked_next_multiple_of(8)? & MOST != size {
            return None;
        }
        let first = total.min(MOST);
        self.in_first = total - first;
        Some(Piece { size: first, content: first - PIECE_HEADER })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_piece_is_as_it_says() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.next(128, 105), Some(Piece { size: 128, content: 105 }));
        assert_eq!(pieces.next(128, 112), Some(Piece { size: 128, content: 112 }));
        assert!(!pieces.go_on());
        assert_eq!(pieces.next(128, 113), None, "more than there is room for");
        assert_eq!(Pieces::default().next(8, u64::MAX), None);
    }

    #[test]
    fn a_full_piece_whose_padded_size_has_no_room_is_not_padded() {
        let mut pieces = Pieces::default();
        let full = Piece { size: 0xffff, content: 0xffff - 16 };
        assert_eq!(pieces.next(0, 0xffff - 16), Some(full));
        assert!(!pieces.go_on());
    }

    #[test]
    fn pieces_that_were_taken_for_one_are_told_apart() {
        let mut pieces = Pieces::default();
        // Two full ones, and one of 1000 bytes.
        let total: u64 = 2 * 0xffff + 1000;
        let told = 1000;
        let full = Piece { size: 0xffff, content: 0xffff - 16 };
        assert_eq!(pieces.next(told, total - 16), Some(full));
        assert_eq!(pieces.next(0xffff, 0xdead), Some(full));
        assert!(pieces.go_on());
        assert_eq!(pieces.next(1000, 0xdead), Some(Piece { size: 1000, content: 984 }));
        assert!(!pieces.go_on());
    }
}
