//! What is not ok, kind by kind.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Plain;
use crate::analysis::Judged;
use crate::model::{Evidence, Judgement, Verdict};
use crate::sink::describe;

/// Findings of one kind: of one source, rule and verdict, in the same words, and all known for the
/// same reason or not known.
#[derive(Debug)]
pub(in crate::report) struct Group {
    /// Index of the source.
    pub source: usize,
    /// The rule.
    pub rule: &'static str,
    /// Its answer.
    pub verdict: Verdict,
    /// Why they are accepted, if they are known.
    pub known: Option<Plain>,
    /// The words, in which addresses and counts are left out.
    pub words: String,
    /// How many.
    pub count: u64,
    /// Time of the first, in nanoseconds.
    pub first_ns: u64,
    /// Time of the last, in nanoseconds.
    pub last_ns: u64,
    /// The first of them.
    pub first: Example,
    /// Those after it, as far as they are kept.
    pub next: Vec<Example>,
}

/// A finding.
#[derive(Debug)]
pub(in crate::report) struct Example {
    /// When, in nanoseconds.
    pub time_ns: u64,
    /// What it is about, in a line.
    pub about: Plain,
    /// Number of the VM.
    pub vm: Option<u32>,
    /// `vcpu_id`.
    pub vcpu: Option<u32>,
    /// The scenario of `check` that was running.
    pub scenario: Option<&'static str>,
    /// What the rule says.
    pub message: Plain,
    /// What that rests on.
    pub evidence: Vec<Piece>,
    /// Pieces that are not there.
    pub more_evidence: usize,
}

/// A value, and where it is from.
#[derive(Debug)]
pub(in crate::report) struct Piece {
    pub what: Plain,
    pub value: Plain,
    pub origin: Plain,
}

impl Piece {
    fn new(evidence: &Evidence) -> Self {
        let Evidence { what, value, origin } = evidence;
        Self { what: Plain::of(what), value: Plain::of(value), origin: Plain::of(origin) }
    }
}

impl Example {
    /// So much evidence is kept. The rules give less, unless a file lets them.
    const MOST_EVIDENCE: usize = 40;

    fn new(judged: &Judged, judgement: &Judgement) -> Self {
        let words: Vec<_> = describe(judged).split_whitespace().map(str::to_owned).collect();
        let evidence = &judgement.evidence;
        Self {
            time_ns: judged.event.time_ns,
            about: Plain::of(&words.join(" ")),
            vm: judged.event.kind.vm(),
            vcpu: judged.event.kind.vcpu(),
            scenario: judged.scenario,
            message: Plain::of(&judgement.message),
            evidence: evidence.iter().take(Self::MOST_EVIDENCE).map(Piece::new).collect(),
            more_evidence: evidence.len().saturating_sub(Self::MOST_EVIDENCE),
        }
    }
}

/// Source, rule, verdict, whether and why it is known, and words.
type Key = (usize, &'static str, Verdict, Option<Plain>, String);

/// All that is not ok.
#[derive(Debug, Default)]
pub(in crate::report) struct Findings {
    groups: BTreeMap<Key, Group>,
    /// Groups of each verdict, and whether they are known.
    of_verdict: BTreeMap<(Verdict, bool), usize>,
    left_out: BTreeMap<Verdict, u64>,
}

impl Findings {
    /// Kinds that are kept of one rule with one verdict in one source.
    const MOST_OF_RULE: usize = 20;
    /// Kinds that are kept of one verdict: what is undetermined, or known, cannot crowd out a
    /// mismatch.
    const MOST_OF_VERDICT: usize = 1000;
    /// Findings of a kind that are kept besides the first.
    const MOST_NEXT: usize = 2;

    /// Takes in what is not ok.
    #[cold]
    pub(super) fn add(&mut self, source: usize, judged: &Judged, judgement: &Judgement) {
        let Judgement { rule, verdict, .. } = *judgement;
        let known = judgement.known.as_deref().map(Plain::of);
        let words = shape(Plain::of(&judgement.message).as_str());
        let key = (source, rule, verdict, known, words);
        let time_ns = judged.event.time_ns;
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            group.last_ns = group.last_ns.max(time_ns);
            if group.next.len() < Self::MOST_NEXT {
                group.next.push(Example::new(judged, judgement));
            }
            return;
        }
        let is_known = key.3.is_some();
        let first = (source, rule, verdict, None, String::new());
        let of_rule = self
            .groups
            .range(first..)
            .take_while(|(of, _)| (of.0, of.1, of.2) == (source, rule, verdict))
            .filter(|(of, _)| of.3.is_some() == is_known);
        let of_verdict = self.of_verdict.entry((verdict, is_known)).or_default();
        if *of_verdict >= Self::MOST_OF_VERDICT || of_rule.count() >= Self::MOST_OF_RULE {
            *self.left_out.entry(verdict).or_default() += 1;
            return;
        }
        *of_verdict += 1;
        let group = Group {
            source,
            rule,
            verdict,
            known: key.3.clone(),
            words: key.4.clone(),
            count: 1,
            first_ns: time_ns,
            last_ns: time_ns,
            first: Example::new(judged, judgement),
            next: vec![],
        };
        self.groups.insert(key, group);
    }

    /// The kinds with this verdict that are not known, the earliest first: what came first may be
    /// the cause of the rest.
    pub(in crate::report) fn with(&self, verdict: Verdict) -> Vec<&Group> {
        self.sorted(|group| group.verdict == verdict && group.known.is_none())
    }

    /// The kinds that are known, the earliest first.
    pub(in crate::report) fn known(&self) -> Vec<&Group> {
        self.sorted(|group| group.known.is_some())
    }

    fn sorted(&self, is_wanted: impl Fn(&Group) -> bool) -> Vec<&Group> {
        let mut groups: Vec<_> = self.groups.values().filter(|group| is_wanted(group)).collect();
        groups.sort_by_key(|group| (group.source, group.first_ns, group.rule));
        groups
    }

    /// The kinds of a source that a rule has found, the worst first, known ones last.
    pub(in crate::report) fn of(&self, source: usize, rule: &'static str) -> Vec<&Group> {
        let first = (source, rule, Verdict::Ok, None, String::new());
        let groups = self.groups.range(first..).map(|(_, group)| group);
        let of_rule = groups.take_while(|group| (group.source, group.rule) == (source, rule));
        let mut groups: Vec<_> = of_rule.collect();
        let order =
            |group: &&Group| (group.known.is_some(), Reverse(group.verdict), group.first_ns);
        groups.sort_by_key(order);
        groups
    }

    /// Findings with this verdict that are of no kind that was kept.
    pub(in crate::report) fn left_out(&self, verdict: Verdict) -> u64 {
        self.left_out.get(&verdict).copied().unwrap_or_default()
    }
}

/// Words by which findings are of the same kind: addresses and larger numbers are left out, levels
/// and widths are not.
pub(super) fn shape(message: &str) -> String {
    let mut words = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix("0x").map(|hex| 2 + digits(hex, 16)).filter(|all| *all > 2);
        let number = hex.unwrap_or_else(|| digits(rest, 10));
        let length = if number > 0 { number } else { c.len_utf8() };
        let (token, after) = rest.split_at(length);
        words.push_str(if number > 2 { "…" } else { token });
        rest = after;
    }
    words
}

/// How many digits it begins with.
fn digits(text: &str, radix: u32) -> usize {
    text.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_counts_are_left_out_and_levels_are_not() {
        for (message, words) in [
            ("root level is 4, should be 5", "root level is 4, should be 5"),
            ("GPA 0x1000: HPA 0x7f3 at level 2", "GPA …: HPA … at level 2"),
            ("faulted 256 times, 10 in a row", "faulted … times, 10 in a row"),
            ("0x, 0xg, größer 2^48", "0x, 0xg, größer 2^48"),
        ] {
            assert_eq!(shape(message), words);
        }
    }
}
