//! What a cell does in one boot: the healthy run, and then fault after fault, each seeded, looked
//! at, taken back and looked at again. That last run is also the healthy one before the next fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::fault::{Change, Entry, Fault, How, Seed};
use super::{Scenario, Seeding};

/// What begins a line of the script's own.
const MARK: &str = "faults: ";
/// What runs each time, less its guests. One whose tables are broken may fault for ever, so it is
/// given up; and a run that does not end is killed.
///
/// Besides JSON lines it writes each other report, of which `lab/named.sh` tells what rules they name.
const CHECK: &str = "timeout -s KILL 120 ept-trace check --keep /tmp/kept \
    --report text=/tmp/reports/text --report tap=/tmp/reports/tap --report ktap=/tmp/reports/ktap \
    --report junit=/tmp/reports/junit --report sarif=/tmp/reports/sarif \
    --report github=/tmp/reports/github --report html=/tmp/reports/html -j --patience";
/// Before each run: nothing is left of those before.
const FRESH: &str = "rm -rf /tmp/kept /tmp/reports; mkdir /tmp/kept /tmp/reports";
/// Seconds of patience with a guest.
const PATIENCE: &str = "5";
/// The same with one that waits for its entries to be changed.
const LONG_PATIENCE: &str = "60";

/// A part of what a cell prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The run before the first fault with these guests.
    Before,
    /// The seeding.
    Seeding,
    /// The run with the fault.
    Faulty,
    /// The run after the fault was taken back.
    After,
}

/// What was printed in one part.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The exit code of what ran.
    pub code: Option<i32>,
    /// All of it.
    pub text: String,
}

/// What was printed, by the scenario's number and part.
pub type Sections = BTreeMap<(usize, Part), Section>;

impl Part {
    const ALL: [Self; 4] = [Self::Before, Self::Seeding, Self::Faulty, Self::After];

    /// For people, and between the two ends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Seeding => "seeding",
            Self::Faulty => "with the fault",
            Self::After => "taken back",
        }
    }
}

impl Section {
    /// Whether what ran came to its end.
    pub fn is_over(&self) -> bool {
        self.code.is_some()
    }

    /// What each report says of rules: format, verdict and rule; of one that says nothing the format
    /// alone.
    pub fn named(&self) -> impl Iterator<Item = (&str, Option<(&str, &str)>)> {
        let told = self.text.lines().filter_map(|line| line.strip_prefix("named: "));
        told.map(|line| match line.split_once(' ') {
            Some((format, said)) => (format, said.split_once(' ')),
            None => (line, None),
        })
    }

    /// The lines of JSON.
    pub fn json(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter(|line| line.starts_with('{'))
    }
}

/// The name of the changed module of the scenario with this number, in the guest's `/add`.
pub fn module_file(number: usize) -> String {
    format!("faulty-{number}.ko")
}

/// Which part has the healthy run before the fault of a scenario.
pub fn before(scenarios: &[Scenario], number: usize) -> (usize, Part) {
    let check = |number: usize| scenarios.get(number).map(|scenario| scenario.fault.check);
    match number.checked_sub(1) {
        Some(last) if check(last) == check(number) => (last, Part::After),
        _ => (number, Part::Before),
    }
}

/// The script for all of `scenarios`.
pub fn script(scenarios: &[Scenario]) -> String {
    let mut script = String::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let check = scenario.fault.check;
        let usual = format!("{CHECK} {PATIENCE} {check}");
        let faulty = match scenario.seed.how {
            How::Guest(check) => format!("{CHECK} {PATIENCE} {check}"),
            How::Entries(entries) => touched(entries, check),
            How::Pokes(_) | How::Module(..) => usual.clone(),
        };
        let (seed, back) = seeding(number, &scenario.seed.how);
        let mark = |part: Part| format!("echo '{MARK}{number} {}'\n", part.name());
        let run = |part, command: &str| {
            let mark = mark(part);
            format!("{mark}{FRESH}\n{command} 2>&1\necho '{MARK}exit' $?\nnamed /tmp/reports\n")
        };
        if before(scenarios, number).1 == Part::Before {
            script += &run(Part::Before, &usual);
        }
        // What was not seeded whole is taken back all the same.
        let (begin, faulty) = (mark(Part::Seeding), run(Part::Faulty, &faulty));
        let _ = write!(script, "{begin}if {seed}; then\n{faulty}fi\n{begin}{back}\n");
        script += &run(Part::After, &usual);
    }
    script
}

/// The commands for a fault that is seeded alone.
pub fn seeding_of(fault: &Fault, seed: &Seed) -> Seeding {
    let (there, back) = seeding(0, &seed.how);
    let guest = match seed.how {
        How::Entries(entries) => Some(touched(entries, fault.check)),
        How::Pokes(_) | How::Module(..) | How::Guest(_) => None,
    };
    Seeding { there, back, guest }
}

/// The commands that seed a fault, and those that take it back.
fn seeding(number: usize, how: &How) -> (String, String) {
    match how {
        How::Pokes(changes) => {
            let there: Vec<String> = changes.iter().map(|change| poke(change, false)).collect();
            let back: Vec<String> = changes.iter().rev().map(|change| poke(change, true)).collect();
            (there.join(" && "), back.join("; "))
        }
        How::Module(name, _) => {
            let (file, place) =
                (module_file(number), format!("/lib/modules/$(uname -r)/{name}.ko"));
            (format!("mount --bind /add/{file} {place}"), format!("umount {place}"))
        }
        How::Guest(_) | How::Entries(_) => ("true".to_owned(), "true".to_owned()),
    }
}

/// The command that runs a guest and changes its entries meanwhile.
fn touched(entries: &[Entry], check: &str) -> String {
    let entries = entries.iter().fold(String::new(), |words, entry| {
        let Entry { table, index, new, back } = entry;
        format!("{words} {table} {index} '{new}' '{back}'")
    });
    format!("touched{entries} -- {CHECK} {LONG_PATIENCE} {check}")
}

fn poke(change: &Change, back: bool) -> String {
    let Change { symbol, within, old, new } = change;
    let (old, new) = if back { (new, old) } else { (old, new) };
    format!("poke {symbol} {within} {old} {new}")
}

/// Takes apart what the script printed.
pub fn sections(output: &str) -> Sections {
    let mut sections = Sections::new();
    let mut current = None;
    for line in output.lines() {
        let own = line.strip_prefix(MARK);
        if let Some(begin) = own.and_then(beginning) {
            current = Some(begin);
        }
        let Some(current) = current else { continue };
        let section = sections.entry(current).or_default();
        match own {
            None => section.text.extend([line, "\n"]),
            Some(own) => {
                section.code = own.strip_prefix("exit ").and_then(|code| code.parse().ok());
            }
        }
    }
    sections
}

/// `3 taken back`
fn beginning(own: &str) -> Option<(usize, Part)> {
    let (number, name) = own.split_once(' ')?;
    let part = Part::ALL.into_iter().find(|part| part.name() == name)?;
    Some((number.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::super::fault::{change, entries, guest, module, pokes};
    use super::*;

    static POKED: Seed = pokes(&[], &[], &[change("x", 2, "0a", "0b"), change("y", 1, "01", "..")]);
    static LOADED: Seed = module(&[], &[], "kvm_intel", &[]);
    static OTHER: Seed = guest(&[], &[], "-c");
    static TOUCHED: Seed =
        entries(&[], &[], &[Entry { table: 2, index: 1, new: "entry | 1", back: "entry" }]);
    static A: Fault = Fault { rule: "EPT101", check: "-a", ..Fault::USUAL };
    static B: Fault = Fault { rule: "EPT107", check: "-b", ..Fault::USUAL };

    #[test]
    fn a_fault_is_taken_back_by_its_reverse() {
        let (there, back) = seeding(0, &POKED.how);
        assert_eq!(there, "poke x 2 0a 0b && poke y 1 01 ..");
        assert_eq!(back, "poke y 1 .. 01; poke x 2 0b 0a");
        let (there, back) = seeding(3, &LOADED.how);
        let place = "/lib/modules/$(uname -r)/kvm_intel.ko";
        assert_eq!(there, format!("mount --bind /add/faulty-3.ko {place}"));
        assert_eq!(back, format!("umount {place}"));
    }

    #[test]
    fn other_guests_are_a_fault_too() {
        let script = script(&[Scenario { fault: &A, seed: &OTHER }]);
        let runs: Vec<&str> =
            script.lines().filter_map(|line| line.strip_prefix(CHECK)?.split(' ').nth(2)).collect();
        assert_eq!(runs, ["-a", "-c", "-a"]);
    }

    #[test]
    fn entries_are_changed_while_the_guest_runs() {
        let script = script(&[Scenario { fault: &A, seed: &TOUCHED }]);
        let faulty = format!("touched 2 1 'entry | 1' 'entry' -- {CHECK} 60 -a 2>&1");
        assert!(script.lines().any(|line| line == faulty), "{script}");
    }

    #[test]
    fn the_run_after_one_fault_is_the_run_before_the_next() {
        let scenario = |fault| Scenario { fault, seed: &POKED };
        let scenarios = [scenario(&A), scenario(&A), scenario(&B)];
        assert_eq!(before(&scenarios, 0), (0, Part::Before));
        assert_eq!(before(&scenarios, 1), (0, Part::After));
        assert_eq!(before(&scenarios, 2), (2, Part::Before), "other guests");
        let script = script(&scenarios);
        assert_eq!(script.matches(CHECK).count(), 2 + 2 * 3, "{script}");
    }

    #[test]
    fn what_reports_name_is_told_by_format() {
        let text = "named: tap\nnamed: tap MISMATCH EPT305\nwords\nnamed: junit\n".to_owned();
        let section = Section { code: None, text };
        let named: Vec<_> = section.named().collect();
        let expected = [("tap", None), ("tap", Some(("MISMATCH", "EPT305"))), ("junit", None)];
        assert_eq!(named, expected);
    }

    #[test]
    fn sections_are_told_apart() {
        let output = "noise\nfaults: 0 before\n{\"a\":1}\nwords\nfaults: exit 0\n\
                      faults: 0 seeding\npoke: no\nfaults: 0 seeding\npoke: never\n\
                      faults: 0 taken back\n";
        let section = |code, text: &str| Section { code, text: text.to_owned() };
        let expected = Sections::from([
            ((0, Part::Before), section(Some(0), "{\"a\":1}\nwords\n")),
            ((0, Part::Seeding), section(None, "poke: no\npoke: never\n")),
            ((0, Part::After), section(None, "")),
        ]);
        assert_eq!(sections(output), expected);
        assert_eq!(expected[&(0, Part::Before)].json().collect::<Vec<_>>(), ["{\"a\":1}"]);
    }
}
