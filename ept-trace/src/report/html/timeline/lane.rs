//! The lane of a vCPU.

use maud::{Markup, html};

use super::Span;
use crate::model::Verdict;
use crate::report::digest::{Change, Lane, Mark, Step};
use crate::report::words::seconds;

/// Height of a level, and where the first is, in pixels.
const ROW: usize = 16;
const TOP: usize = 20;

/// The root level over time, roots in use, and findings.
pub(super) fn draw(lane: &Lane, span: Span) -> Markup {
    let course = course(lane);
    let levels = levels(lane, &course);
    let row = |level: u8| levels.iter().position(|at| *at == drawn(level)).unwrap_or(0);
    let y = |level: u8| TOP + ROW * row(level);
    let end = span.place(lane.gone_ns.unwrap_or(lane.last_ns));
    let height = TOP + ROW * levels.len() - 6;
    let (name, story) = (name(lane), story(lane, &course));
    let ends = course.iter().skip(1).map(|stretch| span.place(stretch.from_ns));
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
                    @let before = std::iter::once(None).chain(course.iter().map(Some));
                    @for ((stretch, end), before) in course.iter().zip(ends).zip(before) {
                        @let from = span.place(stretch.from_ns);
                        @let at = y(stretch.level);
                        @if let Some(before) = before {
                            line.step x1=(from) x2=(from) y1=(y(before.level)) y2=(at) {}
                        }
                        @if let Some(expected) = stretch.expected {
                            line.expected x1=(from) x2=(end) y1=(y(expected)) y2=(y(expected)) {}
                        }
                        line.level x1=(from) x2=(end) y1=(at) y2=(at) {}
                    }
                    @for step in &lane.steps {
                        @if let Change::Handed { level, nested, .. } = step.change {
                            @let (at, class) = (span.place(step.time_ns), root_class(nested));
                            circle class=(class) cx=(at) cy=(y(level)) r="4" {}
                        }
                    }
                    @for found in &lane.marks {
                        (mark(&span.place(found.time_ns), found.verdict, Some(found)))
                    }
                }
            }
        }
    }
}

fn root_class(is_nested: bool) -> &'static str {
    if is_nested { "nested" } else { "root" }
}

/// A stretch of the course.
struct Stretch {
    from_ns: u64,
    level: u8,
    /// The level that it should have, if that is another.
    expected: Option<u8>,
}

/// What the line shows: decisions, else root pages, else roots handed to the hardware.
fn course(lane: &Lane) -> Vec<Stretch> {
    let ranked = || lane.steps.iter().filter_map(stretch);
    let first = ranked().map(|(rank, _)| rank).min();
    let mut course: Vec<_> =
        ranked().filter(|(rank, _)| Some(*rank) == first).map(|(_, stretch)| stretch).collect();
    course.dedup_by_key(|stretch| (stretch.level, stretch.expected));
    course
}

fn stretch(step: &Step) -> Option<(u8, Stretch)> {
    let (rank, level, expected) = match step.change {
        Change::Decided { level, expected, .. } => (0, level?, expected),
        Change::Page { level } => (1, level, None),
        Change::Handed { level, nested: false, .. } => (2, level, None),
        Change::Handed { .. } | Change::Shadowed { .. } => return None,
    };
    let expected = expected.filter(|expected| *expected != level);
    Some((rank, Stretch { from_ns: step.time_ns, level, expected }))
}

/// The levels that have a row: 5 and 4, and what else there is; the highest first.
fn levels(lane: &Lane, course: &[Stretch]) -> Vec<u8> {
    let of_course = course.iter().flat_map(|stretch| [Some(stretch.level), stretch.expected]);
    let of_roots = lane.steps.iter().map(|step| match step.change {
        Change::Handed { level, .. } => Some(level),
        _ => None,
    });
    let mut levels: Vec<_> = of_course.chain(of_roots).flatten().map(drawn).collect();
    levels.extend([5, 4]);
    levels.sort_unstable_by(|a, b| b.cmp(a));
    levels.dedup();
    levels
}

/// Where a level is drawn that no table has, but a file.
fn drawn(level: u8) -> u8 {
    level.clamp(1, 5)
}

fn name(lane: &Lane) -> String {
    lane.vcpu.map_or_else(|| "entries".to_owned(), |vcpu| format!("vCPU {vcpu}"))
}

/// The lane in words.
fn story(lane: &Lane, course: &[Stretch]) -> String {
    let widths = lane.steps.iter().filter_map(|step| match step.change {
        Change::Decided { maxphyaddr, .. } => maxphyaddr,
        _ => None,
    });
    let levels = course.iter().map(|stretch| u32::from(stretch.level));
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
    row.join("\u{a0}→\u{a0}")
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
