//! Root levels over time: a card for each VM, on its own scale of time, with a lane for each vCPU.
//!
//! A lane is SVG whose places along time are in percent, so that it is as wide as there is room.

mod lane;

use maud::{Markup, html};

use self::lane::{draw, mark};
use crate::model::Verdict;
use crate::report::digest::{Change, Digest, Lane, Mark, Step};
use crate::report::words::{count, seconds};

/// So many VMs without findings are shown at once; the others are folded away.
const MOST_AT_ONCE: usize = 12;

/// The vCPUs of a VM.
struct Vm<'a> {
    number: u32,
    pid: u32,
    lanes: Vec<&'a Lane>,
}

/// A stretch of time, in nanoseconds.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// Where a time is, in percent.
    fn place(self, time_ns: u64) -> String {
        let length = u128::from(self.to.saturating_sub(self.from).max(1));
        let after = u128::from(time_ns.clamp(self.from, self.to).saturating_sub(self.from));
        let hundredths = after * 10_000 / length;
        format!("{}.{:02}%", hundredths / 100, hundredths % 100)
    }
}

impl<'a> Vm<'a> {
    fn of_source(digest: &'a Digest, source: usize) -> Vec<Self> {
        let mut vms: Vec<Self> = vec![];
        for lane in digest.timeline.of(source) {
            let (number, pid) = (lane.vm, lane.pid);
            // Without the VM's number it is not known which threads are of one VM.
            match vms.last_mut().filter(|last| last.number == number && number != 0) {
                Some(last) => last.lanes.push(lane),
                None => vms.push(Self { number, pid, lanes: vec![lane] }),
            }
        }
        vms
    }

    fn span(&self) -> Span {
        let from = self.lanes.iter().map(|lane| lane.first_ns).min().unwrap_or_default();
        let ends = self.lanes.iter().map(|lane| lane.gone_ns.unwrap_or(lane.last_ns));
        Span { from, to: ends.max().unwrap_or_default().max(from) }
    }

    /// The worst that was found.
    fn worst(&self) -> Verdict {
        let marks = self.lanes.iter().flat_map(|lane| &lane.marks);
        marks.map(|mark| mark.verdict).max().unwrap_or(Verdict::Ok)
    }
}

/// The timelines of all sources.
pub(super) fn timeline(digest: &Digest) -> Markup {
    let sources = 0..digest.sources.len();
    let with_vms: Vec<_> = sources
        .map(|source| (source, Vm::of_source(digest, source)))
        .filter(|(_, vms)| !vms.is_empty())
        .collect();
    html! {
        @if !with_vms.is_empty() {
            section #timeline {
                h2 { "Root levels over time" }
                (legend())
                @for (source, vms) in &with_vms {
                    @if digest.sources.len() > 1 { p.source { (digest.sources[*source].name()) } }
                    (of_source(vms))
                }
                @if digest.timeline.left_out > 0 {
                    p.more {
                        (count(digest.timeline.left_out, "observation"))
                        " of more vCPUs are not shown"
                    }
                }
            }
        }
    }
}

fn legend() -> Markup {
    let course = |class| html! { line class=(class) x1="3" x2="23" y1="6" y2="6" {} };
    let root = |class| html! { circle class=(class) cx="6" cy="6" r="4" {} };
    let found = |verdict| mark("50%", verdict, None);
    let signs = [
        (26, course("level"), "root level, as decided"),
        (26, course("expected"), "as it should be"),
        (12, root("root"), "root handed to the hardware"),
        (12, root("nested"), "root for L2"),
        (14, found(Verdict::Mismatch), "mismatch"),
        (14, found(Verdict::Advisory), "advisory"),
        (14, found(Verdict::Undetermined), "undetermined"),
    ];
    html! {
        ul.legend {
            @for (width, sign, words) in signs {
                li {
                    svg.sample width=(width) height="12" aria-hidden="true" { (sign) }
                    " " (words)
                }
            }
        }
    }
}

fn of_source(vms: &[Vm<'_>]) -> Markup {
    let (found, calm): (Vec<_>, Vec<_>) = vms.iter().partition(|vm| vm.worst() != Verdict::Ok);
    let (shown, folded) = calm.split_at(calm.len().min(MOST_AT_ONCE));
    html! {
        div.vms {
            @for vm in found.iter().chain(shown) { (card(vm)) }
        }
        @if !folded.is_empty() {
            details.folded {
                summary { (count(folded.len() as u64, "more VM")) ", in which nothing was found" }
                div.vms { @for vm in folded { (card(vm)) } }
            }
        }
    }
}

fn card(vm: &Vm<'_>) -> Markup {
    let span = vm.span();
    let name = match (vm.number, vm.pid) {
        (0, 0) => "No VM is told".to_owned(),
        (0, thread) => format!("Thread {thread}"),
        (number, _) => format!("VM {number}"),
    };
    html! {
        article.vm {
            h3 {
                (name)
                span.when {
                    @if vm.number != 0 && vm.pid != 0 { " pid " (vm.pid) "," }
                    " at " (seconds(span.from)) " s"
                }
            }
            @for lane in &vm.lanes { (draw(lane, span)) }
            p.axis aria-hidden="true" {
                span { "+0" } span { "+" (duration(span.to - span.from)) }
            }
            (changes(vm, span))
        }
    }
}

/// The same as a table.
fn changes(vm: &Vm<'_>, span: Span) -> Markup {
    let mut rows: Vec<(u64, Option<u32>, Markup)> = vec![];
    for lane in &vm.lanes {
        rows.extend(lane.steps.iter().map(|step| (step.time_ns, lane.vcpu, words(step))));
        rows.extend(lane.marks.iter().map(|mark| (mark.time_ns, lane.vcpu, found(*mark))));
    }
    rows.sort_by_key(|(time_ns, ..)| *time_ns);
    let more: u64 = vm.lanes.iter().map(|lane| lane.more_steps).sum();
    html! {
        details {
            summary { "In words, " (count(rows.len() as u64, "line")) }
            table.changes {
                thead {
                    tr {
                        th scope="col" { "After" }
                        th scope="col" { "vCPU" }
                        th scope="col" { "What" }
                    }
                }
                tbody {
                    @for (time_ns, vcpu, what) in &rows {
                        tr {
                            td { (duration(time_ns.saturating_sub(span.from))) }
                            td { @match vcpu { Some(vcpu) => (vcpu), None => "–" } }
                            td { (what) }
                        }
                    }
                }
            }
            @if more > 0 { p.more { "and " (count(more, "change")) " more" } }
        }
    }
}

fn found(mark: Mark) -> Markup {
    html! { (super::findings::badge(mark.verdict)) " " (mark.rule) }
}

fn words(step: &Step) -> Markup {
    let level = |level: Option<u8>| level.map_or("?".to_owned(), |level| level.to_string());
    html! {
        @match step.change {
            Change::Decided { mode, maxphyaddr, level: decided, expected } => {
                "decision: "
                @if let Some(maxphyaddr) = maxphyaddr { "MAXPHYADDR " (maxphyaddr) ", " }
                @if let Some(mode) = mode { (mode) ", " }
                "root level " (level(decided))
                @if expected.is_some() && expected != decided { ", should be " (level(expected)) }
            }
            Change::Page { level } => { "root page of level " (level) }
            Change::Handed { value, is_eptp, level, nested } => {
                @if is_eptp { "EPTP " } @else { "nCR3 " }
                code { (format!("{value:#x}")) } ", level " (level)
                @if nested { ", for L2" }
            }
            Change::Shadowed { level: of_mmu, walk_level } => {
                "MMU for L2: root level " (level(of_mmu))
                @if walk_level.is_some() { ", for tables of L1 of " (level(walk_level)) " levels" }
            }
        }
    }
}

/// A length of time, as a person says it.
fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{}.{:02} ms", ns / 1_000_000, ns / 10_000 % 100),
        10_000_000..1_000_000_000 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        _ => format!("{}.{:02} s", ns / 1_000_000_000, ns / 10_000_000 % 100),
    }
}
