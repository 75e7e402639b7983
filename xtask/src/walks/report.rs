//! What came of a CPU's cases.

use std::collections::BTreeMap;
use std::fmt;

use ept_trace::ept::{Convertible, Outcome};
use walker::protocol::Machine;

use super::case::Case;
use super::compare::{Difference, differences};
use super::expect::{End, Expected, expect};
use super::machine::Answered;
use super::quirk::Quirk;
use crate::lab::Cpu;

/// How many cases that nothing explains are shown.
const SHOWN: usize = 10;

/// The counts, and what nothing explains.
#[derive(Debug)]
pub struct Report {
    cpu: Cpu,
    cases: usize,
    agreed: usize,
    /// By what should come of it.
    ends: BTreeMap<&'static str, usize>,
    /// A case can take several.
    quirks: BTreeMap<Quirk, usize>,
    unexplained: Vec<(u64, Vec<Difference>)>,
}

impl Report {
    /// Holds the answers against what was expected.
    pub fn new(
        cpu: Cpu,
        machine: &Machine,
        cases: &[(Case, Expected)],
        answers: &[Answered],
    ) -> Self {
        let mut report = Self {
            cpu,
            cases: cases.len(),
            agreed: 0,
            ends: BTreeMap::new(),
            quirks: BTreeMap::new(),
            unexplained: Vec::new(),
        };
        // One that never shows is told as well.
        report.quirks.extend(Quirk::of(cpu).iter().map(|quirk| (*quirk, 0)));
        let choices = Quirk::choices(Quirk::of(cpu));
        for ((case, expected), answered) in cases.iter().zip(answers) {
            *report.ends.entry(end(&expected.end)).or_default() += 1;
            let found = differences(case, expected, answered);
            if found.is_empty() {
                report.agreed += 1;
                continue;
            }
            let explains = |quirks: &&Vec<Quirk>| {
                expect(case, machine, quirks)
                    .is_some_and(|other| differences(case, &other, answered).is_empty())
            };
            match choices.iter().find(explains) {
                Some(quirks) => {
                    for quirk in quirks {
                        *report.quirks.entry(*quirk).or_default() += 1;
                    }
                }
                None => report.unexplained.push((case.number, found)),
            }
        }
        report
    }

    /// Whether the CPU did nothing that is not known of it.
    pub fn is_known(&self) -> bool {
        self.unexplained.is_empty()
    }
}

fn end(end: &End) -> &'static str {
    match end {
        End::Refused(_) => "entry refused",
        End::Halted(_) => "accessed",
        End::PageFault(_) => "page fault",
        End::Stopped { walk, .. } => match walk.outcome {
            Outcome::Violation(it) if it.convertible == Convertible::Yes => "convertible violation",
            Outcome::Violation(_) => "violation",
            Outcome::Misconfiguration { .. } => "misconfiguration",
            Outcome::NestedFault(_) => "nested fault",
            Outcome::LogFull => "log full",
            _ => "other",
        },
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cases, agreed, ends, quirks, unexplained } = self;
        let known = cases - agreed - unexplained.len();
        write!(f, "{:<8} {cases} cases: {agreed} as the oracle says", cpu.name())?;
        write!(f, ", {known} by known deviations, {} unexplained", unexplained.len())?;
        let listed = |f: &mut fmt::Formatter<'_>, what, count| write!(f, "\n  {count:>6}  {what}");
        write!(f, "\n  what the oracle says:")?;
        ends.iter().try_for_each(|(what, count)| listed(f, *what, *count))?;
        write!(f, "\n  known deviations:")?;
        quirks.iter().try_for_each(|(quirk, count)| listed(f, quirk.name(), *count))?;
        for (number, differences) in unexplained.iter().take(SHOWN) {
            write!(f, "\n  case {number}:")?;
            differences.iter().try_for_each(|it| write!(f, "\n    {it}"))?;
        }
        Ok(())
    }
}
