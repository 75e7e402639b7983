//! JUnit: a suite for each source, a test case for each rule.
//!
//! No more is written than Jenkins' schema `junit-10.xsd` knows, which the strictest of those who
//! read such files goes by.

use std::fmt::Write as _;
use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::cases::{Answer, Case, cases, evidence, is_note, occurrence};
use super::digest::{Digest, Group, Source};
use super::outcome::sentence;
use crate::analysis::Summary;

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let sources = digest.sources.iter().enumerate();
    let suites: Vec<_> = sources.map(|(number, source)| (source, cases(digest, number))).collect();
    let mut xml = Writer::new_with_indent(&mut *out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let total = Totals::of(suites.iter().flat_map(|(_, cases)| cases));
    let root = xml.create_element("testsuites").with_attributes([
        ("name", "ept-trace"),
        ("tests", &*total.tests.to_string()),
        ("failures", &*total.failures.to_string()),
        ("errors", &*total.errors.to_string()),
    ]);
    root.write_inner_content(|xml| {
        for (source, cases) in &suites {
            suite(xml, source, cases, &sentence(digest, summary))?;
        }
        Ok(())
    })?;
    writeln!(out)
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
                Answer::Skipped => totals.skipped += 1,
            }
        }
        totals
    }
}

fn suite<W: Write>(
    xml: &mut Writer<W>,
    source: &Source,
    cases: &[Case<'_>],
    sentence: &str,
) -> io::Result<()> {
    let totals = Totals::of(cases.iter());
    let suite = xml.create_element("testsuite").with_attributes([
        ("name", source.name().as_str()),
        ("tests", &*totals.tests.to_string()),
        ("failures", &*totals.failures.to_string()),
        ("errors", &*totals.errors.to_string()),
        ("skipped", &*totals.skipped.to_string()),
    ]);
    suite.write_inner_content(|xml| {
        if let Some(machine) = &source.machine {
            let machine = machine.to_string();
            xml.create_element("properties").write_inner_content(|xml| {
                let machine = [("name", "machine"), ("value", machine.as_str())];
                xml.create_element("property").with_attributes(machine).write_empty()?;
                Ok(())
            })?;
        }
        for case in cases {
            test_case(xml, case)?;
        }
        xml.create_element("system-out").write_text_content(BytesText::new(sentence))?;
        Ok(())
    })?;
    Ok(())
}

fn test_case<W: Write>(xml: &mut Writer<W>, case: &Case<'_>) -> io::Result<()> {
    let class = if case.name == "completeness" { "ept-trace" } else { "ept-trace.rules" };
    let element = xml
        .create_element("testcase")
        .with_attributes([("name", &*case.name), ("classname", class)]);
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
        Answer::Failed => {
            let text = details(case.groups.iter().copied());
            failure(xml, "failure", "mismatch", &case.message, &text)
        }
        Answer::Incomplete => {
            failure(xml, "error", "incomplete", &case.message, &case.not_seen.join("\n"))
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
        for line in evidence(group) {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
