//! Where judged observations go: lines for a person, JSON lines, files of observations.

mod json;
mod observations;
mod text;

use std::io;

use crate::analysis::{Judged, Summary};
use crate::model::{Run, ScenarioResult};
use crate::source::Skipped;

pub use json::{Json, schema};
pub use observations::Observations;
pub use text::Text;
pub(crate) use text::describe;

/// A destination of judged observations.
pub trait Sink {
    /// What comes next is of this run of `check`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn run(&mut self, _run: &Run) -> io::Result<()> {
        Ok(())
    }

    /// What came of a scenario of it. All of them come at its end.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn scenario(&mut self, _result: &ScenarioResult) -> io::Result<()> {
        Ok(())
    }

    /// What comes next is from this file, named as the user did.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn source(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// Something of the file could not be read, and was passed over.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn skipped(&mut self, _skipped: &Skipped) -> io::Result<()> {
        Ok(())
    }

    /// An observation.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn event(&mut self, judged: &Judged) -> io::Result<()>;

    /// Nothing comes for the moment: whoever reads sees what there is.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}
