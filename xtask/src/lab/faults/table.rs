//! The table for docs/rules.md: each fault by CPU, and why some are left out.

use std::fmt::Write as _;

use super::Outcome;
use super::fault::Fault;
use super::rows::{self, WITHOUT};
use crate::lab::{Cell, Cpu};

/// Fault by CPU, with the kernels in which the fault was found; and why others are left out.
pub fn table(cells: &[Cell], outcomes: &[Outcome<'_>]) -> String {
    let cpus: Vec<Cpu> =
        Cpu::ALL.into_iter().filter(|cpu| cells.iter().any(|cell| cell.cpu == *cpu)).collect();
    let names: Vec<&str> = cpus.iter().map(|cpu| cpu.name()).collect();
    let mut table = format!("| Rule | Fault | {} |\n", names.join(" | "));
    let _ = writeln!(table, "|---|---|{}", "---|".repeat(cpus.len()));
    for fault in rows::all() {
        let _ = write!(table, "| {} | {} |", fault.rule, fault.what);
        for cpu in &cpus {
            let ran = outcomes.iter().filter(|outcome| {
                std::ptr::eq(outcome.scenario.fault, fault) && outcome.cell.cpu == *cpu
            });
            let kernels: Vec<String> = ran
                .map(|outcome| {
                    let kernel = outcome.cell.kernel.name();
                    if outcome.result.is_ok() { kernel } else { format!("**not** {kernel}") }
                })
                .collect();
            let kernels = if kernels.is_empty() { "–".to_owned() } else { kernels.join(", ") };
            let _ = write!(table, " {kernels} |");
        }
        table.push('\n');
    }
    let left_out: Vec<String> = rows::all().flat_map(|fault| left_out(fault, cells)).collect();
    let without = WITHOUT.iter().map(|(rule, why)| format!("- {rule}: {why}.\n"));
    let left_out: String = left_out.into_iter().chain(without).collect();
    if !left_out.is_empty() {
        let _ = write!(table, "\nLeft out:\n\n{left_out}");
    }
    table
}

/// A line for each reason to leave the fault out, with the cells that it holds for.
fn left_out(fault: &Fault, cells: &[Cell]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&Cell>)> = Vec::new();
    for cell in cells {
        let Err(why) = fault.seed(cell) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, cells)) => cells.push(cell),
            None => reasons.push((why, vec![cell])),
        }
    }
    let line = |(why, of): (&str, Vec<&Cell>)| {
        format!("- {}, {}: not on {}: {why}.\n", fault.rule, fault.what, names(&of, cells))
    };
    reasons.into_iter().map(line).collect()
}

/// `svm, vmx 5.10, vmx 6.1`: a CPU alone stands for all its cells.
fn names(some: &[&Cell], all: &[Cell]) -> String {
    let mut names: Vec<String> = Vec::new();
    for cell in some {
        let is_same = |other: &&Cell| other.cpu == cell.cpu;
        let count = some.iter().copied().filter(is_same).count();
        let name = if count == all.iter().filter(is_same).count() {
            cell.cpu.name().to_owned()
        } else {
            format!("{} {}", cell.cpu.name(), cell.kernel.name())
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::fault::out;
    use super::*;
    use crate::lab::KernelChoice;

    static FAULT: Fault = Fault {
        rule: "EPT104",
        what: "a level",
        left_out: &[out(&[Cpu::Svm], &[], "no EPT"), out(&[Cpu::Vmx], &["5.10", "7.2"], "too old")],
        ..Fault::USUAL
    };

    #[test]
    fn cells_are_left_out_by_reason() {
        let kernels = KernelChoice::parse("all", None).unwrap_or_default();
        let cell = |cpu| kernels.iter().cloned().map(move |kernel| Cell { cpu, kernel });
        let mut cells: Vec<Cell> = cell(Cpu::Svm).chain(cell(Cpu::Vmx)).collect();
        cells.retain(|cell| cell.kernel.name() != "6.1" && cell.kernel.name() != "6.12");
        let lines = left_out(&FAULT, &cells);
        let expected = [
            "- EPT104, a level: not on svm: no EPT.\n",
            "- EPT104, a level: not on vmx: too old.\n",
        ];
        assert_eq!(lines, expected);
        let some: Vec<&Cell> = cells.iter().skip(1).collect();
        assert_eq!(names(&some, &cells), "svm 7.2, vmx");
    }
}
