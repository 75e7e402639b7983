//! SARIF 2.1.0 (OASIS), for the viewers and services that read findings of analysers.
//!
//! A mismatch fails at level `error`, an advisory at `warning`. What is undetermined has the kind
//! `open`, which is the standard's word for it (3.27.9) and allows no level but `none`.

mod scenario;

use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use super::cases::occurrence;
use super::digest::{Digest, Example, Group, Piece, Source};
use super::outcome::sentence;
use super::plain::Plain;
use super::words::{in_short, part, seconds};
use crate::analysis::Summary;
use crate::model::{ScenarioResult, Verdict};
use crate::rules::{RULES, Rule};

/// Of the standard's errata 01.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/\
    sarif-schema-2.1.0.json";

/// What a run of `check` is called, which has no file; some services take no result without one.
const RUN: &str = "ept-trace-check";

/// Writes the report.
pub(super) fn write(
    digest: &Digest,
    summary: &Summary,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let verdicts = [Verdict::Mismatch, Verdict::Advisory, Verdict::Undetermined];
    let groups = verdicts.into_iter().flat_map(|verdict| digest.findings.with(verdict));
    let groups = groups.chain(digest.findings.known());
    let mut results: Vec<_> = groups.map(|group| result(digest, group)).collect();
    let mut rules: Vec<_> = RULES.iter().map(rule).collect();
    results.extend(scenario::failures(digest, rules.len()));
    rules.extend(digest.scenarios().map(scenario::rule));
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "ept-trace",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "artifacts": digest.sources.iter().map(artifact).collect::<Vec<_>>(),
            "results": results,
            "invocations": [invocation(digest, summary)],
            "columnKind": "unicodeCodePoints",
            "properties": {
                "summary": summary,
                "verdict": sentence(digest, summary),
                "run": digest.sources.first().and_then(|source| source.run.as_ref()),
                "scenarios": digest.scenarios().map(scenario::properties).collect::<Vec<_>>(),
            },
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    out.write_all(b"\n")
}

/// A rule, in the words of `explain`.
fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": { "text": in_short(rule) },
        "fullDescription": { "text": part(rule, "What it judges") },
        "help": { "text": rule.explanation() },
    })
}

fn artifact(source: &Source) -> Value {
    match &source.path {
        Some(path) => json!({ "location": { "uri": uri(path) }, "roles": ["analysisTarget"] }),
        None if source.run.is_some() => json!({
            "location": { "uri": RUN },
            "description": { "text": source.name().as_str() },
        }),
        None => json!({ "description": { "text": source.name().as_str() } }),
    }
}

/// A path as a relative or absolute URI reference (RFC 3986): all but what is unreserved, and the
/// slashes, is by its number, so that no `:` makes a scheme of what is before it.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into());
            }
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    // Two slashes would begin the name of a host.
    if uri.starts_with("//") { format!("/.{uri}") } else { uri }
}

fn result(digest: &Digest, group: &Group) -> Value {
    let (kind, level) = match group.verdict {
        Verdict::Mismatch => ("fail", "error"),
        Verdict::Advisory => ("fail", "warning"),
        Verdict::Undetermined | Verdict::Ok => ("open", "none"),
    };
    let Example { message, vm, vcpu, .. } = &group.first;
    let place = match (vm, vcpu) {
        (Some(vm), Some(vcpu)) => Some(format!("VM {vm}/vCPU {vcpu}")),
        (Some(vm), None) => Some(format!("VM {vm}")),
        (None, Some(vcpu)) => Some(format!("vCPU {vcpu}")),
        (None, None) => None,
    };
    let examples = std::iter::once(&group.first).chain(&group.next);
    json!({
        "ruleId": group.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.id == group.rule),
        "kind": kind,
        "level": level,
        "message": { "text": format!("{message}\n{}", occurrence(group)) },
        "locations": location(digest, group.source, place.as_deref()),
        "occurrenceCount": group.count.max(1),
        "suppressions": suppressions(group),
        "partialFingerprints": {
            "findingInWords/v1": format!("{} {}: {}", group.rule, group.verdict, group.words),
        },
        "properties": {
            "firstNs": group.first_ns,
            "lastNs": group.last_ns,
            "evidence": examples.map(example).collect::<Vec<_>>(),
        },
    })
}

/// Why a finding is accepted. By the standard (3.27.23) either all results of a run say so, or none.
fn suppressions(group: &Group) -> Vec<Value> {
    let accepted = |reason: &Plain| json!({ "kind": "external", "status": "accepted", "justification": reason.as_str() });
    group.known.iter().map(accepted).collect()
}

fn example(example: &Example) -> Value {
    let evidence = example.evidence.iter().map(|Piece { what, value, origin }| {
        json!({ "what": what.as_str(), "value": value.as_str(), "origin": origin.as_str() })
    });
    json!({
        "time": seconds(example.time_ns),
        "about": example.about.as_str(),
        "message": example.message.as_str(),
        "evidence": evidence.collect::<Vec<_>>(),
    })
}

fn location(digest: &Digest, source: usize, place: Option<&str>) -> Vec<Value> {
    let mut location = json!({});
    let of = digest.sources.get(source);
    let run = of.filter(|source| source.run.is_some()).map(|_| RUN.to_owned());
    if let Some(uri) = of.and_then(|source| source.path.as_deref()).map(uri).or(run) {
        let artifact = json!({ "uri": uri, "index": source });
        location["physicalLocation"] = json!({ "artifactLocation": artifact });
    }
    if let Some(place) = place {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": place }]);
    }
    if location == json!({}) { vec![] } else { vec![location] }
}

/// The run: not a success if something was not seen, so that nobody takes the absence of a finding
/// for its end.
fn invocation(digest: &Digest, summary: &Summary) -> Value {
    let mut notifications = vec![];
    let mut notify = |level: &str, source: usize, text: String| {
        // There may be many, and a name may be long: it is told among the artifacts.
        let at = json!({ "physicalLocation": { "artifactLocation": { "index": source } } });
        notifications
            .push(json!({ "level": level, "message": { "text": text }, "locations": [at] }));
    };
    for (number, source) in digest.sources.iter().enumerate() {
        for line in source.not_seen() {
            notify("error", number, line);
        }
    }
    for (level, text) in digest.scenarios().flat_map(scenario::notifications) {
        notify(level, 0, text);
    }
    for stale in &summary.stale {
        notify("note", 0, format!("known, and not found: {}", Plain::of(stale)));
    }
    for complaint in digest.complaints.first() {
        let at = seconds(complaint.first_ns);
        let text = format!("at {at} s, {}: {}", complaint.by, complaint.text);
        notify("warning", complaint.source, text);
    }
    let is_complete = !summary.is_incomplete()
        && !digest.sources.iter().any(Source::is_incomplete)
        && !digest.scenarios().any(ScenarioResult::is_incomplete);
    json!({ "executionSuccessful": is_complete, "toolExecutionNotifications": notifications })
}
