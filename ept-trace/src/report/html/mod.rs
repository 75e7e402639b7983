//! One page of HTML that asks for nothing else: no script, no font, no picture from elsewhere, and
//! its own policy forbids any request.

mod findings;
mod scenarios;
mod tables;
mod timeline;

use std::io::{self, Write};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::digest::{Digest, Source};
use super::outcome::{Outcome, sentence};
use super::words::seconds;
use crate::analysis::Summary;

/// Allows the style that is in the page, and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Writes the report.
pub(super) fn write(digest: &Digest, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    out.write_all(page(digest, summary).into_string().as_bytes())
}

fn page(digest: &Digest, summary: &Summary) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "ept-trace " (env!("CARGO_PKG_VERSION")) };
                title { (title(digest, summary)) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (head(digest, summary))
                main {
                    (findings::findings(digest))
                    (scenarios::scenarios(digest))
                    (findings::known(digest, summary))
                    (findings::undetermined(digest))
                    (findings::complaints(digest))
                    (timeline::timeline(digest))
                    (tables::tables(digest, summary))
                    (tables::rules(digest))
                    (tables::completeness(digest, summary))
                    (tables::machine(digest))
                }
                footer {
                    p {
                        "Written by ept-trace " (env!("CARGO_PKG_VERSION"))
                        ". This page stands alone: it asks the network for nothing."
                    }
                }
            }
        }
    }
}

fn title(digest: &Digest, summary: &Summary) -> String {
    let word = Outcome::of(digest, summary).word();
    match &*digest.sources {
        [] => format!("{word} – ept-trace"),
        [source] => format!("{word} – {} – ept-trace", source.name()),
        [source, more @ ..] => {
            format!("{word} – {} and {} more – ept-trace", source.name(), more.len())
        }
    }
}

fn head(digest: &Digest, summary: &Summary) -> Markup {
    let outcome = Outcome::of(digest, summary);
    let sentence = sentence(digest, summary);
    let sentence = sentence.strip_prefix(outcome.word()).unwrap_or_default();
    let mut clauses = sentence.trim_start_matches(": ").split("; ");
    let first = clauses.next().unwrap_or_default();
    let (class, sign) = match outcome {
        Outcome::Mismatch | Outcome::Failed => ("mismatch", "✕"),
        Outcome::Incomplete => ("undetermined", "…"),
        Outcome::Skipped | Outcome::Undetermined | Outcome::Nothing => ("undetermined", "?"),
        Outcome::Clean => ("ok", "✓"),
    };
    html! {
        header class=(class) {
            p.kicker { "ept-trace: KVM’s TDP root level" }
            h1 {
                span.sign aria-hidden="true" { (sign) } " "
                (outcome.word()) ": " span.rest { (first) }
            }
            @for clause in clauses { p.clause { (clause) } }
            ul.sources {
                @for source in &digest.sources { li { (of_source(source)) } }
            }
            (counts(digest, summary))
        }
    }
}

fn of_source(source: &Source) -> Markup {
    html! {
        strong { (source.name()) }
        @if let Some(machine) = source.machine() { ", " (machine) }
        @if let Some((first, last)) = source.span {
            ", from " (seconds(first)) " to " (seconds(last)) " s"
        }
    }
}

/// The counts that matter most; what was not observed at all is left out.
fn counts(digest: &Digest, summary: &Summary) -> Markup {
    let total = digest.total();
    let verdicts = [
        ("mismatches", total.mismatch, "mismatch"),
        ("undetermined", total.undetermined, "undetermined"),
        ("advisories", total.advisory, "advisory"),
    ];
    let verdicts = verdicts.map(|(what, number, class)| (what, number, Some(class)));
    let seen = [
        ("decisions", summary.decisions),
        ("walks", summary.walks),
        ("changes of entries", summary.spte_changes),
    ];
    let seen = seen.into_iter().filter(|(_, number)| *number > 0);
    let missing = [
        ("records lost", summary.lost),
        ("gaps", summary.gaps),
        ("places not read", digest.sources.iter().map(|source| source.skipped).sum()),
    ];
    let counts = verdicts
        .into_iter()
        .chain(seen.map(|(what, number)| (what, number, None)))
        .chain(missing.map(|(what, number)| (what, number, Some("mismatch"))));
    html! {
        dl.counts {
            @for (what, number, class) in counts {
                div class=[class.filter(|_| number > 0)] { dt { (what) } dd { (number) } }
            }
        }
    }
}
