//! What a fault is: the form of a row.

use crate::lab::{Cell, Cpu, KernelChoice};

/// One fault: what is broken, and what must be found.
#[derive(Debug)]
pub struct Fault {
    /// The rule that must find it.
    pub rule: &'static str,
    /// What is broken, for people.
    pub what: &'static str,
    /// As what it is found.
    pub verdict: Verdict,
    /// Both values, which the evidence must have: what KVM has, and what the rule holds against it.
    /// `*` stands for what no row can know, such as most of an address; but the two must differ.
    pub values: [&'static str; 2],
    /// Other rules for which it is a fault as well.
    pub also: &'static [&'static str],
    /// Rules that cannot tell any more, where it is.
    pub untold: &'static [&'static str],
    /// The rule has nothing to judge where all is well: what it is about does not happen then.
    pub is_silent_else: bool,
    /// The guests: arguments of `check`, the same with the fault and without.
    pub check: &'static str,
    /// How it is seeded, by cell; the first for a cell counts.
    pub seeds: &'static [Seed],
    /// Where it is not seeded, and why.
    pub left_out: &'static [LeftOut],
}

/// As what a fault is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Exit code 1.
    Mismatch,
    /// Exit code 0.
    Advisory,
}

/// Some cells: these CPUs with these kernels.
#[derive(Debug, PartialEq, Eq)]
pub struct Cells {
    cpus: &'static [Cpu],
    /// Debian's kernels by version; empty for any kernel at all.
    kernels: &'static [&'static str],
}

/// How a fault is seeded in some cells.
#[derive(Debug, PartialEq, Eq)]
pub struct Seed {
    cells: Cells,
    /// What is done.
    pub how: How,
    /// The values there, where they are not the fault's.
    values: Option<[&'static str; 2]>,
}

/// What makes a fault.
#[derive(Debug, PartialEq, Eq)]
pub enum How {
    /// The memory of the running kernel is changed, and changed back.
    Pokes(&'static [Change]),
    /// The file of this module is changed. `check` must load it: `--reload`.
    Module(&'static str, &'static [Change]),
    /// `check` has these arguments instead.
    Guest(&'static str),
    /// Entries of a running guest's tables are changed, and changed back before it ends. `check`
    /// must touch a GPA again: `--touch GPA --again`.
    Entries(&'static [Entry]),
}

/// An entry of the tables that map a GPA, and what it becomes: see `lab/touched.sh`.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The level of the table.
    pub table: u8,
    /// At the index that the GPA has at this level.
    pub index: u8,
    /// What it becomes, in arithmetic of the shell.
    pub new: &'static str,
    /// What is to be there when the guest ends.
    pub back: &'static str,
}

/// Bytes that are changed, in memory (see [`crate::lab::poke`]) or in a module's file.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Where the search begins.
    pub symbol: &'static str,
    /// How many bytes are searched.
    pub within: u32,
    /// The bytes that must be there, in hexadecimal, with `..` for any.
    pub old: &'static str,
    /// What takes their place, with `..` for what is there.
    pub new: &'static str,
}

/// Cells in which a fault is not seeded.
#[derive(Debug)]
pub struct LeftOut {
    cells: Cells,
    why: &'static str,
}

/// Why a kernel of the user's has only some of the faults.
const NOT_DEBIANS: &str = "the bytes to change are known for Debian's kernels alone";

impl Fault {
    /// What most rows have in common.
    pub const USUAL: Self = Self {
        rule: "",
        what: "",
        verdict: Verdict::Mismatch,
        values: ["", ""],
        also: &[],
        untold: &[],
        is_silent_else: false,
        check: "--maxphyaddr 36 --vcpus 1",
        seeds: &[],
        left_out: &[],
    };

    /// How it is seeded in `cell`, or why it is not.
    pub fn seed(&self, cell: &Cell) -> Result<&'static Seed, &'static str> {
        let left_out = self.left_out.iter().find(|out| out.cells.have(cell));
        let why = match cell.kernel {
            KernelChoice::Image(..) | KernelChoice::Patched(..) if left_out.is_none() => {
                NOT_DEBIANS
            }
            _ => left_out.map_or("", |out| out.why),
        };
        self.seeds.iter().find(|seed| seed.cells.have(cell)).ok_or(why)
    }

    /// Both values, as `seed` makes them.
    pub fn values(&self, seed: &Seed) -> [&'static str; 2] {
        seed.values.unwrap_or(self.values)
    }
}

impl Cells {
    fn have(&self, cell: &Cell) -> bool {
        let is_kernel = match &cell.kernel {
            _ if self.kernels.is_empty() => true,
            KernelChoice::Debian(debian) => self.kernels.contains(&debian.version),
            KernelChoice::Image(..) | KernelChoice::Patched(..) => false,
        };
        is_kernel && self.cpus.contains(&cell.cpu)
    }
}

/// A seed in the running kernel's memory.
pub const fn pokes(
    cpus: &'static [Cpu],
    kernels: &'static [&'static str],
    changes: &'static [Change],
) -> Seed {
    Seed { cells: Cells { cpus, kernels }, how: How::Pokes(changes), values: None }
}

/// A seed in the file of the module `name`.
pub const fn module(
    cpus: &'static [Cpu],
    kernels: &'static [&'static str],
    name: &'static str,
    changes: &'static [Change],
) -> Seed {
    Seed { cells: Cells { cpus, kernels }, how: How::Module(name, changes), values: None }
}

/// Other guests, by the arguments of `check`.
pub const fn guest(
    cpus: &'static [Cpu],
    kernels: &'static [&'static str],
    check: &'static str,
) -> Seed {
    Seed { cells: Cells { cpus, kernels }, how: How::Guest(check), values: None }
}

/// Entries of a running guest's tables.
pub const fn entries(
    cpus: &'static [Cpu],
    kernels: &'static [&'static str],
    entries: &'static [Entry],
) -> Seed {
    Seed { cells: Cells { cpus, kernels }, how: How::Entries(entries), values: None }
}

impl Seed {
    /// The same, with values of its own.
    pub const fn with(self, values: [&'static str; 2]) -> Self {
        Self { values: Some(values), ..self }
    }
}

/// Cells without the fault.
pub const fn out(
    cpus: &'static [Cpu],
    kernels: &'static [&'static str],
    why: &'static str,
) -> LeftOut {
    LeftOut { cells: Cells { cpus, kernels }, why }
}

/// A change within so many bytes from a symbol on.
pub const fn change(
    symbol: &'static str,
    within: u32,
    old: &'static str,
    new: &'static str,
) -> Change {
    Change { symbol, within, old, new }
}

/// A change of a variable of one byte, or of the lowest byte of one.
pub const fn variable(symbol: &'static str, old: &'static str, new: &'static str) -> Change {
    change(symbol, 1, old, new)
}
