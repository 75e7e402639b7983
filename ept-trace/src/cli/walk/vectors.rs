//! `--vectors`: conformance cases, each walked and compared.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::cli::Exit;
use crate::cli::analyze::BadInput;
use crate::cli::output::print;
use crate::ept::vector::cases;

/// Runs the cases, prints each failure and the counts.
pub(super) fn run(path: &Path) -> Result<Exit> {
    let text = super::read(path)?;
    let cases = cases(&text).map_err(|err| BadInput(format!("{}: {err}", path.display())))?;
    let mut printed = String::new();
    let mut failed = 0;
    for case in &cases {
        if let Err(why) = case.run() {
            failed += 1;
            let _ = writeln!(printed, "{} [{}]: {why}", case.name(), case.source());
        }
    }
    let _ = writeln!(printed, "{} passed, {failed} failed", cases.len() - failed);
    print(&printed)?;
    Ok(if failed == 0 { Exit::Clean } else { Exit::Mismatch })
}
