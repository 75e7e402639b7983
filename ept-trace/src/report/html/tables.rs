//! The counts: tables by level, rules, what was not seen, the machine.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::findings::pieces;
use crate::analysis::{LevelShape, Summary};
use crate::report::digest::{Digest, Ended, Source};
use crate::report::plain::Plain;
use crate::report::words::rule_name;
use crate::rules::RULES;

/// So many VMs have their tables shown.
const MOST_VMS: usize = 100;

/// The shape of the tables: by level where their history is known, else by walks.
pub(super) fn tables(digest: &Digest, summary: &Summary) -> Markup {
    let mut vms: BTreeMap<u32, Vec<&LevelShape>> = BTreeMap::new();
    for shape in &summary.shape {
        vms.entry(shape.vm).or_default().push(shape);
    }
    let left_out = vms.len().saturating_sub(MOST_VMS);
    html! {
        @if !vms.is_empty() || !digest.walks.is_empty() {
            section #tables {
                h2 { "Tables" }
                @for (vm, levels) in vms.iter().take(MOST_VMS) { (of_vm(*vm, levels)) }
                @if left_out > 0 { p.more { "and " (left_out) " VMs more" } }
                @if !digest.walks.is_empty() { (walks(&digest.walks)) }
            }
        }
    }
}

/// What one entry of this level maps, as a power of two.
fn shift(level: u8) -> u32 {
    12 + 9 * u32::from(level.clamp(1, 5) - 1)
}

/// A size, of which `bytes` is a power of two or a sum of pages.
fn size(bytes: u128) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 10 * 1024 || (value >= 1024 && value.is_multiple_of(1024)) {
        if unit + 1 == units.len() {
            break;
        }
        value /= 1024;
        unit += 1;
    }
    format!("{value} {}", units[unit])
}

fn of_vm(vm: u32, levels: &[&LevelShape]) -> Markup {
    let mapped = |shape: &LevelShape| u128::from(shape.leaves) << shift(shape.level);
    let most = levels.iter().map(|shape| mapped(shape)).max().unwrap_or(0);
    let share = |bytes: u128| (bytes * 100).checked_div(most).unwrap_or(0);
    let mut levels = levels.to_vec();
    levels.sort_by_key(|shape| std::cmp::Reverse(shape.level));
    html! {
        section.wide tabindex="0" aria-label={ "Tables of VM " (vm) } {
            table.numbers {
                caption { "VM " (vm) ", by level, as the changes of its entries left it" }
                thead {
                    tr {
                        th scope="col" { "Level" }
                        th scope="col" { "An entry covers" }
                        th scope="col" { "Tables" }
                        th scope="col" { "Pages mapped" }
                        th scope="col" { "Memory mapped" }
                        th scope="col" { span.hidden { "Share" } }
                    }
                }
                tbody {
                    @for shape in levels {
                        tr {
                            th scope="row" { (shape.level) }
                            td { (size(1 << shift(shape.level))) }
                            td { (shape.tables) }
                            td { (shape.leaves) }
                            td { (size(mapped(shape))) }
                            td.bar {
                                svg width="100%" height="10" aria-hidden="true" {
                                    rect width={ (share(mapped(shape))) "%" } height="10" rx="2" {}
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn walks(walks: &BTreeMap<Ended, u64>) -> Markup {
    let most = walks.values().copied().max().unwrap_or(1).max(1);
    let name = |ended: &Ended| match ended {
        Ended::Mapped(level) => format!("a page of {}", size(1 << shift(*level))),
        Ended::Otherwise(what) => (*what).to_owned(),
    };
    html! {
        section.wide tabindex="0" aria-label="Walks" {
            table.numbers {
                caption {
                    "Walks, by where they ended. A walk is of a fault: a page that faults again is "
                    "counted again, and one that never faults is not."
                }
                thead {
                    tr {
                        th scope="col" { "Ended at" }
                        th scope="col" { "Walks" }
                        th scope="col" { span.hidden { "Share" } }
                    }
                }
                tbody {
                    @for (ended, number) in walks {
                        tr {
                            th scope="row" { (name(ended)) }
                            td { (number) }
                            td.bar {
                                svg width="100%" height="10" aria-hidden="true" {
                                    rect width={ (number * 100 / most) "%" } height="10" rx="2" {}
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What each rule said.
pub(super) fn rules(digest: &Digest) -> Markup {
    let asked = digest.rules();
    let unasked: Vec<_> =
        RULES.iter().map(|rule| rule.id).filter(|id| !asked.contains_key(id)).collect();
    html! {
        section #rules {
            h2 { "Rules" }
            @if !asked.is_empty() {
                section.wide tabindex="0" aria-label="Rules" {
                    table.numbers {
                        thead {
                            tr {
                                th scope="col" { "Rule" }
                                th scope="col" { "mismatch" }
                                th scope="col" { "undetermined" }
                                th scope="col" { "advisory" }
                                th scope="col" { "ok" }
                            }
                        }
                        tbody {
                            @for (id, counts) in &asked {
                                tr {
                                    th scope="row" { (id) " " (rule_name(id)) }
                                    (number(counts.mismatch, "mismatch"))
                                    (number(counts.undetermined, "undetermined"))
                                    (number(counts.advisory, "advisory"))
                                    (number(counts.ok, "ok"))
                                }
                            }
                        }
                    }
                }
            }
            @if !unasked.is_empty() {
                p.more { "Nothing to judge for " (unasked.join(", ")) "." }
            }
        }
    }
}

fn number(number: u64, class: &str) -> Markup {
    html! {
        @if number == 0 { td.zero { "0" } } @else { td class=(class) { (number) } }
    }
}

/// What was seen, and what was not.
pub(super) fn completeness(digest: &Digest, summary: &Summary) -> Markup {
    let is_complete = !summary.is_incomplete() && !digest.sources.iter().any(Source::is_incomplete);
    html! {
        section #seen {
            h2 { "Seen, and not seen" }
            @if is_complete { p.none { "Nothing was lost, and no line was passed over." } }
            @for source in digest.sources.iter().filter(|source| source.is_incomplete()) {
                (missing(source))
            }
            p {
                @for (index, (kind, number)) in digest.events.iter().enumerate() {
                    @if index > 0 { ", " }
                    (kind) " " (number)
                }
            }
            @if !summary.hooks.is_empty() { (hooks(summary)) }
        }
    }
}

fn missing(source: &Source) -> Markup {
    html! {
        h3 { (source.name()) }
        ul.missing { @for line in source.not_seen() { li { (line) } } }
    }
}

fn hooks(summary: &Summary) -> Markup {
    html! {
        section.wide tabindex="0" aria-label="Hooks" {
            table.numbers {
                caption { "Calls of each hook: fired = delivered + filtered + dropped + missed" }
                thead {
                    tr {
                        th scope="col" { "Hook" }
                        th scope="col" { "fired" }
                        th scope="col" { "delivered" }
                        th scope="col" { "filtered" }
                        th scope="col" { "dropped" }
                        th scope="col" { "missed" }
                    }
                }
                tbody {
                    @for hook in &summary.hooks {
                        tr {
                            th scope="row" { (Plain::of(&hook.hook)) }
                            td { (hook.fired) }
                            td { (hook.delivered) }
                            td { (hook.filtered) }
                            (number(hook.dropped, "mismatch"))
                            (number(hook.missed, "mismatch"))
                        }
                    }
                }
            }
        }
    }
}

/// The machine of each source, and the hooks that were set on it.
pub(super) fn machine(digest: &Digest) -> Markup {
    let known = digest.sources.iter().filter(|source| source.machine.is_some());
    let known: Vec<_> = known.collect();
    html! {
        @if !known.is_empty() {
            section #machine {
                h2 { "Machine" }
                @for source in known {
                    @if let Some(machine) = &source.machine {
                        h3 { (machine) }
                        @if digest.sources.len() > 1 { p.when { (source.name()) } }
                        (pieces("Fact", &machine.facts))
                    }
                    @if let Some(hooks) = &source.hooks {
                        @for what in &hooks.not_seen { p.more { "Not seen: " (what) } }
                        details {
                            summary { "The hooks, as they were set" }
                            ul.hooks {
                                @for (hook, is_attached, how) in &hooks.hooks {
                                    li {
                                        strong { (hook) }
                                        @if *is_attached { ": " } @else { ", not attached: " }
                                        (how)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
