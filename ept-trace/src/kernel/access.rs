//! What of the kernel only the privileged may open.

use std::fs::File;
use std::io::{Read as _, Seek as _};

use anyhow::{Context as _, Result};

use super::kcore::Kcore;
use super::machine;
use crate::model::Hardware;

const KALLSYMS: &str = "/proc/kallsyms";

/// The kernel's symbols and memory, opened once: whoever has opened them may read them again, with no
/// capability at all, whenever a module comes. The hardware is asked once, for no module changes it.
#[derive(Debug)]
pub struct Access {
    kallsyms: File,
    /// Kernel memory, or why it cannot be read.
    pub kcore: Result<Kcore>,
    /// What the hardware is.
    pub hardware: Hardware,
}

impl Access {
    /// Opens what can be opened.
    ///
    /// # Errors
    ///
    /// Without `/proc/kallsyms`. All else may be missing.
    pub fn open() -> Result<Self> {
        let kallsyms = File::open(KALLSYMS).with_context(hint)?;
        Ok(Self { kallsyms, kcore: Kcore::open(), hardware: machine::hardware() })
    }

    /// The lines of `/proc/kallsyms` as they are now.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn kallsyms(&self) -> Result<String> {
        let mut text = String::new();
        let mut file = &self.kallsyms;
        file.rewind().and_then(|()| file.read_to_string(&mut text)).with_context(hint)?;
        Ok(text)
    }
}

fn hint() -> String {
    format!("{KALLSYMS}: is /proc mounted, and CONFIG_KALLSYMS on?")
}
