//! JUnit: a suite for each source, a test case for each case of a scenario and for each rule.
//!
//! No more is written than Jenkins' schema `junit-10.xsd` knows, which the strictest of those who
//! read such files goes by.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::cases::{Answer, Case, cases, cases_of, evidence, is_note, occurrence};
use super::digest::{Digest, Group, Source};
use super::outcome::sentence;
use super::plain::Plain;
use crate::analysis::Summary;

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let sources = digest.sources.iter().enumerate();
    let suites: Vec<_> = sources.map(|(number, source)| (source, all(digest, number))).collect();
    let mut xml = Writer::new_with_indent(&mut *out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let total = Totals::of(suites.iter().flat_map(|(_, cases)| cases).map(|(_, case)| case));
    let root = xml.create_element("testsuites").with_attributes([
        ("name", "ept-trace"),
        ("tests", &*total.tests.to_string()),
        ("failures", &*total.failures.to_string()),
        ("errors", &*total.errors.to_string()),
    ]);
    let mut whole = sentence(digest, summary);
    for stale in &summary.stale {
        let _ = write!(whole, "\nknown, and not found: {}", Plain::of(stale));
    }
    root.write_inner_content(|xml| {
        for (source, cases) in &suites {
            suite(xml, source, cases, &whole)?;
        }
        Ok(())
    })?;
    writeln!(out)
}

/// The test cases of a source, each with its class.
fn all(digest: &Digest, number: usize) -> Vec<(String, Case<'_>)> {
    let scenarios = digest.sources[number].scenarios.iter();
    let of_scenarios = scenarios.flat_map(|result| {
        let class = format!("ept-trace.check.{}", result.name);
        cases_of(result).into_iter().map(move |case| (class.clone(), case))
    });
    let of_rules = cases(digest, number).into_iter().map(|case| {
        let class = if case.name == "completeness" { "ept-trace" } else { "ept-trace.rules" };
        (class.to_owned(), case)
    });
    of_scenarios.chain(of_rules).collect()
}

/// Seconds, as JUnit has them.
fn time(took: Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

struct Totals {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Totals {
    fn of<'a>(cases: impl Iterator<Item = &'a Case<'a>>) -> Self {
        let mut totals = Self { tests: 0, failures: 0, errors: 0, skipped: 0 };
        for case in cases {
            totals.tests += 1;
            match case.answer {
                Answer::Passed => {}
                Answer::Failed => totals.failures += 1,
                Answer::Incomplete => totals.errors += 1,
                Answer::Skipped | Answer::Known => totals.skipped += 1,
            }
        }
        totals
    }
}

fn suite<W: Write>(
    xml: &mut Writer<W>,
    source: &Source,
    cases: &[(String, Case<'_>)],
    sentence: &str,
) -> io::Result<()> {
    let totals = Totals::of(cases.iter().map(|(_, case)| case));
    let took = source.scenarios.iter().map(|result| result.took).sum();
    let mut suite = xml.create_element("testsuite").with_attributes([
        ("name", source.name().as_str()),
        ("tests", &*totals.tests.to_string()),
        ("failures", &*totals.failures.to_string()),
        ("errors", &*totals.errors.to_string()),
        ("skipped", &*totals.skipped.to_string()),
    ]);
    if took > Duration::ZERO {
        suite = suite.with_attribute(("time", &*time(took)));
    }
    suite.write_inner_content(|xml| {
        let command = source.run.as_ref().map(|run| run.command.clone());
        let properties = [("machine", source.machine()), ("command", command)];
        if properties.iter().any(|(_, value)| value.is_some()) {
            xml.create_element("properties").write_inner_content(|xml| {
                for (name, value) in &properties {
                    let Some(value) = value else { continue };
                    let property = [("name", *name), ("value", value.as_str())];
                    xml.create_element("property").with_attributes(property).write_empty()?;
                }
                Ok(())
            })?;
        }
        for (class, case) in cases {
            test_case(xml, class, case)?;
        }
        xml.create_element("system-out").write_text_content(BytesText::new(sentence))?;
        Ok(())
    })?;
    Ok(())
}

fn test_case<W: Write>(xml: &mut Writer<W>, class: &str, case: &Case<'_>) -> io::Result<()> {
    let mut element = xml
        .create_element("testcase")
        .with_attributes([("name", &*case.name), ("classname", class)]);
    if let Some(took) = case.took {
        element = element.with_attribute(("time", &*time(took)));
    }
    let notes = details(case.groups.iter().copied().filter(|group| is_note(group)));
    if case.answer == Answer::Passed && notes.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|xml| match case.answer {
        Answer::Passed => {
            xml.create_element("system-out").write_text_content(BytesText::new(&notes))?;
            Ok(())
        }
        Answer::Skipped => {
            xml.create_element("skipped")
                .with_attribute(("message", &*case.message))
                .write_empty()?;
            Ok(())
        }
        // JUnit has no word of its own for it.
        Answer::Known => {
            let text = details(case.groups.iter().copied());
            xml.create_element("skipped")
                .with_attribute(("message", &*format!("known: {}", case.message)))
                .write_text_content(BytesText::new(&text))?;
            Ok(())
        }
        Answer::Failed => {
            let sort = if case.took.is_some() { "failed" } else { "mismatch" };
            let text = details(case.groups.iter().copied()) + &case.lines.join("\n");
            failure(xml, "failure", sort, &case.message, &text)
        }
        Answer::Incomplete => {
            failure(xml, "error", "incomplete", &case.message, &case.lines.join("\n"))
        }
    })?;
    Ok(())
}

fn failure<W: Write>(
    xml: &mut Writer<W>,
    element: &str,
    sort: &str,
    message: &str,
    text: &str,
) -> io::Result<()> {
    xml.create_element(element)
        .with_attributes([("type", sort), ("message", message)])
        .write_text_content(BytesText::new(text))?;
    Ok(())
}

/// Findings with their evidence, as text.
fn details<'a>(groups: impl Iterator<Item = &'a Group>) -> String {
    let mut text = String::new();
    for group in groups {
        let message = &group.first.message;
        let _ = writeln!(text, "{}: {message}\n  {}", group.verdict, occurrence(group));
        if let Some(reason) = &group.known {
            let _ = writeln!(text, "    known: {reason}");
        }
        for line in evidence(group) {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
