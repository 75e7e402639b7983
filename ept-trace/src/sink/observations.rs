//! Observations without verdicts, for other programs to read: what is in a recording, as text.

use std::io::{self, Write};

use super::Sink;
use crate::analysis::{Judged, Summary};

/// One JSON object a line, each a [`crate::model::Event`].
pub struct Observations<W> {
    out: W,
}

impl<W: Write> Observations<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Sink for Observations<W> {
    fn event(&mut self, judged: &Judged) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &judged.event)?;
        self.out.write_all(b"\n")
    }

    fn finish(&mut self, _summary: &Summary) -> io::Result<()> {
        self.out.flush()
    }
}
