//! What `perf record -z` compressed: one stream of zstd, cut into records. Those that it has in it
//! go on from one piece to the next.

use std::io;
use std::ops::Range;

use zstd::stream::raw::{Decoder, Operation as _};

use super::window::{Header, Window};

/// The stream. Of what it had, zstd keeps 128 MiB at most, and refuses to keep more.
pub struct Compressed {
    decoder: Decoder<'static>,
}

impl Compressed {
    pub fn new() -> io::Result<Self> {
        Ok(Self { decoder: Decoder::new()? })
    }

    /// Takes the next record from `plain`, which is filled from `input`; and how much of that was
    /// used. `None` if all was, and more is needed.
    ///
    /// # Errors
    ///
    /// What is wrong; the stream cannot be read on.
    #[inline]
    pub fn take(
        &mut self,
        input: &[u8],
        plain: &mut Window,
    ) -> Result<(usize, Option<Range<usize>>), String> {
        let mut used = 0;
        loop {
            if let Some(header) = Header::parse(plain.held()) {
                if !header.is_possible() {
                    return Err(header.complaint());
                }
                if header.size <= plain.held().len() {
                    return Ok((used, Some(plain.take(header.size))));
                }
            }
            let status = self.decoder.run_on_buffers(&input[used..], plain.room());
            let status = status.map_err(|err| err.to_string())?;
            used += status.bytes_read;
            plain.came(status.bytes_written);
            if status.bytes_read == 0 && status.bytes_written == 0 {
                let is_stuck = used < input.len();
                return if is_stuck { Err(STUCK.to_owned()) } else { Ok((used, None)) };
            }
        }
    }
}

const STUCK: &str = "a stream of zstd that does not go on";
