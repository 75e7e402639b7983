//! The lane of a vCPU.

use maud::{Markup, html};

use super::Span;
use crate::model::Verdict;
use crate::report::digest::{Change, Mark, Step, Vcpu};
use crate::report::words::seconds;

/// Height of a level, and where the first is, in pixels.
const ROW: usize = 16;
const TOP: usize = 20;

/// The root level over time, roots in use, and findings.
pub(super) fn lane(vcpu: &Vcpu, span: Span) -> Markup {
    let line = line(vcpu);
    let levels = levels(vcpu, &line);
    let y = |level: u8| TOP + ROW * levels.iter().position(|at| *at == level).unwrap_or(0);
    let end = span.place(vcpu.gone_ns.unwrap_or(vcpu.last_ns));
    let height = TOP + ROW * levels.len() - 6;
    let (name, story) = (name(vcpu), story(vcpu, &line));
    let ends = line.iter().skip(1).map(|stretch| span.place(stretch.from_ns));
    let ends = ends.chain([end.clone()]);
    html! {
        div.lane {
            p { strong { (name) } " " (story) }
            div.drawing {
                div.levels aria-hidden="true" { @for level in &levels { span { (level) } } }
                svg width="100%" height=(height) role="img" aria-label={ (name) ": " (story) } {
                    @for level in &levels {
                        line.guide x1="0%" x2="100%" y1=(y(*level)) y2=(y(*level)) {}
                    }
                    @for (index, (stretch, end)) in line.iter().zip(ends).enumerate() {
                        @let from = span.place(stretch.from_ns);
                        @let at = y(stretch.level);
                        @if let Some(before) = index.checked_sub(1).and_then(|index| line.get(index)) {
                            line.step x1=(from) x2=(from) y1=(y(before.level)) y2=(at) {}
                        }
                        @if let Some(expected) = stretch.expected {
                            line.expected x1=(from) x2=(end) y1=(y(expected)) y2=(y(expected)) {}
                        }
                        line.level x1=(from) x2=(end) y1=(at) y2=(at) {}
                    }
                    @for step in &vcpu.steps {
                        @if let Change::Handed { level, nested, .. } = step.change {
                            @let class = if nested { "nested" } else { "root" };
                            circle class=(class) cx=(span.place(step.time_ns)) cy=(y(level)) r="4" {}
                        }
                    }
                    @for found in &vcpu.marks { (mark(&span.place(found.time_ns), found.verdict, Some(found))) }
                }
            }
        }
    }
}

/// A stretch of the line.
struct Stretch {
    from_ns: u64,
    level: u8,
    /// The level that it should have, if that is another.
    expected: Option<u8>,
}

/// What the line shows: decisions, else root pages, else roots handed to the hardware.
fn line(vcpu: &Vcpu) -> Vec<Stretch> {
    let sorts: [fn(&Change) -> Option<(u8, Option<u8>)>; 3] = [
        |change| match *change {
            Change::Decided { level, expected, .. } => {
                level.map(|level| (level, expected.filter(|expected| *expected != level)))
            }
            _ => None,
        },
        |change| match *change {
            Change::Page { level } => Some((level, None)),
            _ => None,
        },
        |change| match *change {
            Change::Handed { level, nested: false, .. } => Some((level, None)),
            _ => None,
        },
    ];
    let lines = sorts.map(|level_of| {
        let stretch = |step: &Step| {
            let (level, expected) = level_of(&step.change)?;
            Some(Stretch { from_ns: step.time_ns, level, expected })
        };
        let mut line: Vec<_> = vcpu.steps.iter().filter_map(stretch).collect();
        line.dedup_by_key(|stretch| (stretch.level, stretch.expected));
        line
    });
    lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default()
}

/// The levels that have a row: 5 and 4, and what else there is; the highest first.
fn levels(vcpu: &Vcpu, line: &[Stretch]) -> Vec<u8> {
    let mut levels = vec![5, 4];
    levels.extend(line.iter().flat_map(|stretch| [Some(stretch.level), stretch.expected]).flatten());
    levels.extend(vcpu.steps.iter().filter_map(|step| match step.change {
        Change::Handed { level, .. } => Some(level),
        _ => None,
    }));
    levels.sort_unstable_by(|a, b| b.cmp(a));
    levels.dedup();
    levels
}

fn name(vcpu: &Vcpu) -> String {
    vcpu.vcpu.map_or_else(|| "entries".to_owned(), |vcpu| format!("vCPU {vcpu}"))
}

/// The lane in words.
fn story(vcpu: &Vcpu, line: &[Stretch]) -> String {
    let widths = vcpu.steps.iter().filter_map(|step| match step.change {
        Change::Decided { maxphyaddr, .. } => maxphyaddr,
        _ => None,
    });
    let levels = line.iter().map(|stretch| u32::from(stretch.level));
    let parts = [("MAXPHYADDR", row(widths)), ("level", row(levels))];
    let parts = parts.into_iter().filter(|(_, row)| !row.is_empty());
    parts.map(|(what, row)| format!("{what}\u{a0}{row}")).collect::<Vec<_>>().join(", ")
}

/// Values in their order, each once in a row.
fn row(values: impl Iterator<Item = u32>) -> String {
    const MOST: usize = 6;
    let mut values: Vec<_> = values.collect();
    values.dedup();
    let more = values.len().saturating_sub(MOST);
    let mut row: Vec<_> = values.iter().take(MOST).map(u32::to_string).collect();
    if more > 0 {
        row.push(format!("{more} more"));
    }
    row.join(" → ")
}

/// A sign for a finding, of a shape and a colour of its own, at the upper edge.
pub(super) fn mark(place: &str, verdict: Verdict, found: Option<&Mark>) -> Markup {
    let (class, path) = match verdict {
        Verdict::Mismatch => ("mismatch", "M0-5.5 5.5 0 0 5.5-5.5 0z"),
        Verdict::Advisory => ("advisory", "M0-5 5.5 4.5-5.5 4.5z"),
        Verdict::Undetermined | Verdict::Ok => ("undetermined", "M-4-4H4V4H-4z"),
    };
    html! {
        svg x=(place) y="6" overflow="visible" {
            path class={ "mark " (class) } d=(path) {
                @if let Some(Mark { time_ns, rule, verdict }) = found {
                    title { (rule) " " (verdict) " at " (seconds(*time_ns)) " s" }
                }
            }
        }
    }
}
