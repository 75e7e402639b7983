//! Whether a recording is as it should be: every tool has recorded the same, and all of it, and
//! `ept-trace watch` has found the fault, or none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::plan::{Fault, Session};

/// Where every event stands, a line each.
const LISTS: [&str; 5] =
    ["trace.txt", "report.txt", "perf-script.txt", "perf-script.pipe.txt", "perf-script.zstd.txt"];

/// Checks a session by the files in its directory.
pub fn check(session: &Session, dir: &Path) -> Result<()> {
    let read = |file: &str| {
        fs::read_to_string(dir.join(file)).with_context(|| format!("it left no {file}"))
    };
    match session {
        Session::All | Session::Briefly => {
            all_tell_the_same(&LISTS, read)?;
            is_lost(&read("trace.pipe-lost.txt")?, "LOST", true)?;
            found(&read("findings.txt")?, None)?;
        }
        Session::Moved => found(&read("findings.txt")?, None)?,
        Session::Fault(Fault { rule, .. }) => found(&read("findings.txt")?, Some(rule))?,
        Session::Buffers | Session::Lost => {}
    }
    let is_expected = *session == Session::Lost;
    is_lost(&read("report.txt")?, "EVENTS DROPPED", is_expected)?;
    if *session != Session::Buffers {
        is_lost(&read("perf-script.few.txt")?, "PERF_RECORD_LOST", is_expected)?;
    }
    Ok(())
}

/// How many events every one of these texts has.
pub fn all_tell_the_same(
    texts: &[&'static str],
    read: impl Fn(&str) -> Result<String>,
) -> Result<usize> {
    let is_event = |line: &&str| !line.starts_with('#') && !line.starts_with("cpus=");
    let mut counts = BTreeMap::new();
    for text in texts {
        counts.insert(text, read(text)?.lines().filter(is_event).count());
    }
    let first = counts.values().next().copied().unwrap_or_default();
    if first == 0 || counts.values().any(|count| *count != first) {
        bail!("the tools differ in how many events there were: {counts:?}");
    }
    Ok(first)
}

fn is_lost(text: &str, word: &str, is_expected: bool) -> Result<()> {
    match (text.contains(word), is_expected) {
        (true, false) => bail!("events were lost: {word}"),
        (false, true) => bail!("nothing was lost, of which `{word}` would tell"),
        _ => Ok(()),
    }
}

/// What `ept-trace watch` said: of this rule a mismatch, or of none.
fn found(findings: &str, rule: Option<&str>) -> Result<()> {
    let is_right = match rule {
        Some(rule) => findings.contains(&format!("{rule} MISMATCH")),
        None => findings.contains(": 0 mismatches, 0 undetermined"),
    };
    if !is_right || !findings.contains("0 records lost, 0 gaps") {
        bail!("`ept-trace watch` did not find {}:\n{findings}", rule.unwrap_or("all well"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_misses_an_event_is_found_out() {
        let read = |short: &'static str| {
            move |file: &str| {
                let head = if file == "report.txt" { "cpus=1\n" } else { "" };
                let events = if file == short { "a\n" } else { "a\nb\n" };
                Ok(format!("{head}{events}"))
            }
        };
        assert_eq!(all_tell_the_same(&LISTS, read("")).ok(), Some(2));
        assert!(all_tell_the_same(&LISTS, read("perf-script.zstd.txt")).is_err());
        assert!(all_tell_the_same(&LISTS, |_: &str| Ok(String::new())).is_err(), "nothing at all");
    }

    #[test]
    fn findings_are_those_of_the_fault() {
        let well = "3 decisions, 2 walks: 0 mismatches, 0 undetermined, 0 advisories; \
                    0 records lost, 0 gaps";
        let faulty = "EPT103 MISMATCH: root level is 5\n\
                      3 decisions: 1 mismatches, 0 undetermined, 0 advisories; 0 records lost, 0 gaps";
        assert!(found(well, None).is_ok() && found(faulty, Some("EPT103")).is_ok());
        assert!(found(well, Some("EPT103")).is_err() && found(faulty, None).is_err());
        assert!(found(&faulty.replace("0 gaps", "1 gaps"), Some("EPT103")).is_err());
    }

    #[test]
    fn loss_is_where_it_belongs() {
        assert!(is_lost("CPU:0 [LOST 5 EVENTS]", "LOST", true).is_ok());
        assert!(is_lost("CPU:0 [LOST 5 EVENTS]", "LOST", false).is_err());
        assert!(is_lost("", "LOST", true).is_err());
    }
}
