//! Whether a fault was found while it was there, and nothing else, and never else.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::Scenario;
use super::fault::{Fault, Verdict};
use super::script::{self, Part, Section, Sections};
use crate::judged::Report;

/// The reports besides JSON lines.
const FORMATS: [&str; 7] = ["github", "html", "junit", "ktap", "sarif", "tap", "text"];
/// Findings of one run at the most: a guest that faults for ever is told of again when its faults have
/// doubled, and so does not bury everything else.
const MOST_FINDINGS: usize = 1000;
/// As reports call what is broken.
const MISMATCH: &str = "MISMATCH";

/// Judges one of the scenarios that ran in one boot.
pub fn judge(scenarios: &[Scenario], number: usize, sections: &Sections) -> Result<()> {
    let scenario = &scenarios[number];
    let is_silent = |section: &Section| silent(scenario.fault, section);
    look(sections, script::before(scenarios, number), "before", is_silent)?;
    if !sections.contains_key(&(number, Part::Faulty)) {
        let said = sections.get(&(number, Part::Seeding)).map_or("", |section| &section.text);
        bail!("it could not be seeded:\n{said}");
    }
    let faulty = |section: &Section| found(scenario, section);
    look(sections, (number, Part::Faulty), Part::Faulty.name(), faulty)?;
    look(sections, (number, Part::After), Part::After.name(), is_silent)
}

/// Judges a section, and shows it where the judgement fails.
fn look(
    sections: &Sections,
    at: (usize, Part),
    name: &str,
    judge: impl Fn(&Section) -> Result<()>,
) -> Result<()> {
    let section = sections.get(&at).with_context(|| format!("nothing ran {name}"))?;
    judge(section).map_err(|why| anyhow!("{name}: {why:#}\nit printed:\n{}", section.text))
}

/// The rule has judged if it can, all verdicts are ok, and so is the exit code.
fn silent(fault: &Fault, section: &Section) -> Result<()> {
    if section.code != Some(0) {
        bail!("exit code {:?} and not 0", section.code);
    }
    let json: String = section.json().flat_map(|line| [line, "\n"]).collect();
    let report = Report::parse(&json)?;
    if !report.faults.is_empty() {
        bail!("not silent: {}", report.faults.join("; "));
    }
    all_written(section)?;
    for (format, said) in section.named() {
        if let Some((MISMATCH, rule)) = said {
            bail!("the report {format} says that {rule} is broken");
        }
    }
    let has_judged = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["rules"][fault.rule] == "ok"
    };
    if !fault.is_silent_else && !section.json().any(has_judged) {
        bail!("{} has judged nothing", fault.rule);
    }
    Ok(())
}

/// The rule has found the fault and named both values, no other rule has found anything, and the
/// exit code tells of it.
fn found(scenario: &Scenario, section: &Section) -> Result<()> {
    let Scenario { fault, seed } = scenario;
    let (verdict, code) = match fault.verdict {
        Verdict::Mismatch => ("mismatch", 1),
        Verdict::Advisory => ("advisory", 0),
    };
    if section.code != Some(code) {
        bail!("exit code {:?} and not {code}", section.code);
    }
    let mut count = 0;
    for line in section.json() {
        let line: Value = serde_json::from_str(line)?;
        if line["type"] != "finding" {
            continue;
        }
        let rule = line["rule"].as_str().unwrap_or_default();
        if rule == fault.rule && line["verdict"] == verdict {
            let values = fault.values(seed);
            if !names(&line, values) {
                bail!("the evidence does not name both {} and {}: {line}", values[0], values[1]);
            }
            count += 1;
            continue;
        }
        let expected = if line["verdict"] == "undetermined" { fault.untold } else { fault.also };
        if !expected.contains(&rule) {
            bail!("found what was not seeded: {line}");
        }
    }
    match count {
        0 => bail!("{} found nothing", fault.rule),
        1..=MOST_FINDINGS => {}
        _ => bail!("{} found it {count} times, {MOST_FINDINGS} are enough", fault.rule),
    }
    all_written(section)?;
    let verdict = match fault.verdict {
        Verdict::Mismatch => MISMATCH,
        Verdict::Advisory => "advisory",
    };
    for format in FORMATS {
        if !section.named().any(|named| named == (format, Some((verdict, fault.rule)))) {
            bail!("the report {format} does not name {}", fault.rule);
        }
    }
    for (format, said) in section.named() {
        if let Some((MISMATCH, rule)) = said
            && rule != fault.rule
            && !fault.also.contains(&rule)
        {
            bail!("the report {format} names {rule}, which was not seeded");
        }
    }
    Ok(())
}

/// The run came to its reports.
fn all_written(section: &Section) -> Result<()> {
    for format in FORMATS {
        if !section.named().any(|(written, _)| written == format) {
            bail!("there is no report {format}");
        }
    }
    Ok(())
}

/// Whether a finding's evidence has both values, which are not one and the same.
fn names(finding: &Value, [first, second]: [&str; 2]) -> bool {
    let evidence = finding["evidence"].as_array().map_or(&[][..], Vec::as_slice);
    let values: Vec<&str> = evidence.iter().filter_map(|piece| piece["value"].as_str()).collect();
    let matching = |pattern| values.iter().copied().filter(move |value| fits(value, pattern));
    matching(first).any(|one| matching(second).any(|other| one != other))
}

/// Whether `value` is as in a row, where one `*` stands for anything.
fn fits(value: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => value == pattern,
        Some((start, end)) => value.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::fault::{Seed, pokes};
    use super::*;

    const OK: &str = r#"{"type":"setup","what":"facts","verdict":"ok","rules":{"EPT104":"ok"}}"#;
    const FOUND: &str = r#"{"type":"finding","rule":"EPT104","verdict":"mismatch","message":"x","evidence":[{"value":"4"},{"value":"5"}]}"#;

    static SEED: Seed = pokes(&[], &[], &[]);
    const FAULT: Fault =
        Fault { rule: "EPT104", values: ["4", "5"], also: &["EPT105"], ..Fault::USUAL };
    static ADVISED: Fault = Fault { verdict: Verdict::Advisory, also: &[], ..FAULT };

    fn section(code: i32, lines: &[&str]) -> Section {
        let mut text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        text += &reports(lines);
        Section { code: Some(code), text }
    }

    /// What `named` says, where the reports say what the JSON lines do.
    fn reports(lines: &[&str]) -> String {
        let mut text = String::new();
        for format in FORMATS {
            let _ = writeln!(text, "named: {format}");
            for line in lines {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                let Some(rule) = line["rule"].as_str() else { continue };
                let verdict = line["verdict"].as_str().unwrap_or_default();
                let verdict = verdict.replace("mismatch", MISMATCH);
                let _ = writeln!(text, "named: {format} {verdict} {rule}");
            }
        }
        text
    }

    #[test]
    fn every_report_must_say_the_same() {
        let scenario = Scenario { fault: &FAULT, seed: &SEED };
        let good = section(1, &[FOUND]);
        assert!(found(&scenario, &good).is_ok());
        for (said, instead) in [
            ("named: tap MISMATCH EPT104\n", ""),
            ("named: tap MISMATCH EPT104\n", "named: tap advisory EPT104\n"),
            ("named: tap\n", "named: tap\nnamed: tap MISMATCH EPT301\n"),
        ] {
            let text = good.text.replace(said, instead);
            assert!(found(&scenario, &Section { text, ..good }).is_err(), "{instead}");
        }
        let healthy = section(0, &[OK]);
        assert!(silent(&FAULT, &healthy).is_ok());
        for (said, instead) in
            [("named: html\n", ""), ("named: html\n", "named: html\nnamed: html MISMATCH EPT104\n")]
        {
            let text = healthy.text.replace(said, instead);
            assert!(silent(&FAULT, &Section { text, ..healthy }).is_err(), "{instead}");
        }
    }

    fn is_found(fault: &'static Fault, code: i32, lines: &[&str]) -> bool {
        found(&Scenario { fault, seed: &SEED }, &section(code, lines)).is_ok()
    }

    #[test]
    fn silence_is_a_rule_that_judged_and_said_ok() {
        assert!(silent(&FAULT, &section(0, &[OK, "ept-trace: words"])).is_ok());
        let other = Fault { rule: "EPT105", ..FAULT };
        assert!(silent(&other, &section(0, &[OK])).is_err(), "has not judged");
        let other = Fault { is_silent_else: true, ..other };
        assert!(silent(&other, &section(0, &[OK])).is_ok(), "has nothing to judge");
        assert!(silent(&other, &section(0, &[OK, FOUND])).is_err(), "another's finding");
        assert!(silent(&FAULT, &section(1, &[OK])).is_err(), "exit code");
        assert!(silent(&FAULT, &section(0, &[OK, FOUND])).is_err(), "a finding");
    }

    #[test]
    fn the_fault_and_nothing_else_is_found() {
        assert!(is_found(&FAULT, 1, &[FOUND]));
        assert!(is_found(&FAULT, 1, &[FOUND, &FOUND.replace("EPT104", "EPT105")]), "also");
        assert!(is_found(&FAULT, 1, &[FOUND; MOST_FINDINGS]), "again");
        assert!(!is_found(&FAULT, 1, &[FOUND; MOST_FINDINGS + 1]), "no end of it");
        assert!(!is_found(&FAULT, 0, &[FOUND]), "exit code");
        assert!(!is_found(&FAULT, 1, &[OK]), "nothing found");
        for other in [
            FOUND.replace("EPT104", "EPT103"),
            FOUND.replace("mismatch", "undetermined"),
            FOUND.replace("\"5\"", "\"6\""),
        ] {
            assert!(!is_found(&FAULT, 1, &[FOUND, &other]), "{other}");
        }
    }

    #[test]
    fn what_no_row_can_know_may_be_anything() {
        let finding = |values: &[&str]| {
            let pieces: Vec<Value> =
                values.iter().map(|value| serde_json::json!({ "value": value })).collect();
            serde_json::json!({ "evidence": pieces })
        };
        let names = |values: &[&str], wanted| names(&finding(values), wanted);
        assert!(names(&["0x136d85e", "7"], ["0x*85e", "7"]));
        assert!(!names(&["0x136d05e", "7"], ["0x*85e", "7"]), "another end");
        assert!(names(&["0x4000", "0x5000"], ["0x*000", "0x*000"]));
        assert!(!names(&["0x4000", "0x4000"], ["0x*000", "0x*000"]), "no difference");
        assert!(!names(&["5"], ["5", "4"]) && !names(&[], ["*", "*"]));
    }

    #[test]
    fn advice_is_no_mismatch() {
        let advice = FOUND.replace("mismatch", "advisory");
        assert!(is_found(&ADVISED, 0, &[&advice]));
        assert!(!is_found(&ADVISED, 0, &[FOUND]));
        assert!(!is_found(&FAULT, 1, &[&advice]));
    }

    #[test]
    fn all_parts_must_have_run() {
        let scenarios = [Scenario { fault: &FAULT, seed: &SEED }];
        let sections = |parts: &[(Part, i32, &str)]| -> Sections {
            parts.iter().map(|(part, code, line)| ((0, *part), section(*code, &[line]))).collect()
        };
        let whole = [(Part::Before, 0, OK), (Part::Faulty, 1, FOUND), (Part::After, 0, OK)];
        assert!(judge(&scenarios, 0, &sections(&whole)).is_ok());
        for missing in 0..whole.len() {
            let rest: Vec<_> =
                (0..whole.len()).filter(|at| *at != missing).map(|at| whole[at]).collect();
            assert!(judge(&scenarios, 0, &sections(&rest)).is_err(), "{:?}", whole[missing].0);
        }
    }
}
