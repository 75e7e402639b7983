//! What is wrong, with its evidence.

use maud::{Markup, html};

use crate::analysis::Summary;
use crate::model::Verdict;
use crate::report::advice::advice;
use crate::report::digest::{Digest, Example, Group, Piece};
use crate::report::plain::Plain;
use crate::report::words::{count, in_short, part, rule_name, seconds};
use crate::rules::Rule;

/// Mismatches and advisories, rule by rule; the rule that found something first is the first.
pub(super) fn findings(digest: &Digest) -> Markup {
    let verdicts = [Verdict::Mismatch, Verdict::Advisory];
    let groups: Vec<_> =
        verdicts.into_iter().flat_map(|verdict| digest.findings.with(verdict)).collect();
    let mut rules: Vec<_> = vec![];
    for group in &groups {
        if !rules.contains(&group.rule) {
            rules.push(group.rule);
        }
    }
    html! {
        section #findings {
            h2 { "Findings" }
            @if groups.is_empty() { p.none { "No rule has found anything wrong." } }
            @for id in rules {
                section.rule {
                    h3 { (id) " " (rule_name(id)) }
                    @if let Some(rule) = Rule::find(id) { (about(rule)) }
                    @for group in groups.iter().filter(|group| group.rule == id) {
                        (finding(digest, group))
                    }
                }
            }
            @for verdict in verdicts { (left_out(digest, verdict)) }
        }
    }
}

/// What is in the baseline, found or not.
pub(super) fn known(digest: &Digest, summary: &Summary) -> Markup {
    let groups = digest.findings.known();
    html! {
        @if !groups.is_empty() || !summary.stale.is_empty() {
            section #known {
                h2 { "Known" }
                p { "In the baseline, each for a reason; none of these fails the run." }
                @for group in groups {
                    section.rule {
                        h3 { (group.rule) " " (rule_name(group.rule)) }
                        (finding(digest, group))
                    }
                }
                @if !summary.stale.is_empty() {
                    h3 { "In the baseline, and not found" }
                    ul { @for stale in &summary.stale { li { (Plain::of(stale)) } } }
                }
            }
        }
    }
}

fn about(rule: &Rule) -> Markup {
    html! {
        p.about { "What should hold: " (in_short(rule)) }
        details {
            summary { "Why it matters, and what to do" }
            p { (part(rule, "Why it matters")) }
            p { (part(rule, "What to do")) }
        }
    }
}

fn left_out(digest: &Digest, verdict: Verdict) -> Markup {
    let more = digest.findings.left_out(verdict);
    html! {
        @if more > 0 {
            p.more { (badge(verdict)) " " (more) " more of other kinds, which are only counted." }
        }
    }
}

/// A verdict, as a word in its colour.
pub(super) fn badge(verdict: Verdict) -> Markup {
    html! { span class={ "badge " (class(verdict)) } { (verdict) } }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Advisory => "advisory",
        Verdict::Undetermined => "undetermined",
        Verdict::Mismatch => "mismatch",
    }
}

fn finding(digest: &Digest, group: &Group) -> Markup {
    let Group { first, next, .. } = group;
    let source = digest.sources.get(group.source).filter(|_| digest.sources.len() > 1);
    html! {
        article class=(class(group.verdict)) {
            h4 { (badge(group.verdict)) " " (first.message) }
            p.when {
                "at " (seconds(first.time_ns)) " s: " (first.about)
                @if let Some(scenario) = first.scenario { ", in scenario " (scenario) }
                @if let Some(source) = source { ", in " (source.name()) }
            }
            @if let Some(reason) = &group.known { p.more { "Known: " (reason) } }
            (evidence(first))
            @if group.count > 1 {
                p.more {
                    (group.count - 1) " more like this, the last at "
                    (seconds(group.last_ns)) " s."
                }
            }
            @if !next.is_empty() {
                details {
                    summary { "The next of them" }
                    @for other in next {
                        p.when { "at " (seconds(other.time_ns)) " s: " (other.about) }
                        p { (other.message) }
                        (evidence(other))
                    }
                }
            }
        }
    }
}

fn evidence(example: &Example) -> Markup {
    html! {
        @if !example.evidence.is_empty() {
            (pieces("Evidence", &example.evidence))
        }
        @if example.more_evidence > 0 { p.more { "and " (example.more_evidence) " values more" } }
    }
}

/// Values, each with where it is from.
pub(super) fn pieces(title: &str, pieces: &[Piece]) -> Markup {
    html! {
        table.evidence {
            thead {
                tr {
                    th scope="col" { (title) }
                    th scope="col" { "Value" }
                    th scope="col" { "From" }
                }
            }
            tbody {
                @for piece in pieces {
                    tr {
                        th scope="row" { (piece.what) }
                        td.value { (piece.value) }
                        td.origin { (piece.origin) }
                    }
                }
            }
        }
    }
}

/// What could not be judged, and what to add.
pub(super) fn undetermined(digest: &Digest) -> Markup {
    let groups = digest.findings.with(Verdict::Undetermined);
    let advice = advice(groups.iter().map(|group| group.first.message.as_str()));
    html! {
        @if !groups.is_empty() {
            section #undetermined {
                h2 { "Undetermined" }
                p { "A fact is missing without which nobody can tell. It is not guessed." }
                @if !advice.is_empty() {
                    h3 { "What to add" }
                    dl.advice {
                        @for advice in advice { dt { code { (advice.add) } } dd { (advice.tells) } }
                    }
                }
                ul.undetermined {
                    @for group in &groups {
                        li {
                            strong { (group.rule) " " (rule_name(group.rule)) }
                            ", " (count(group.count, "time")) ": " (group.first.message)
                        }
                    }
                }
                (left_out(digest, Verdict::Undetermined))
            }
        }
    }
}

/// What the kernel and others have complained of by themselves.
pub(super) fn complaints(digest: &Digest) -> Markup {
    let complaints = &digest.complaints;
    html! {
        @if complaints.count() > 0 {
            section #complaints {
                h2 { "Complaints" }
                p { "In the words of the kernel, or of the program that uses KVM." }
                ul {
                    @for complaint in complaints.first() {
                        li {
                            span.when {
                                "at " (seconds(complaint.first_ns)) " s, " (complaint.by) ": "
                            }
                            code { (complaint.text) }
                            @if complaint.count > 1 {
                                span.more {
                                    " and " (complaint.count - 1) " more like this, the last at "
                                    (seconds(complaint.last_ns)) " s"
                                }
                            }
                        }
                    }
                }
                @if complaints.left_out > 0 {
                    p.more { "and " (complaints.left_out) " in other words" }
                }
            }
        }
    }
}
