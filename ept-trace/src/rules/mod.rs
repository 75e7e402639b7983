//! The rules, one file each. A rule holds an observation against an expectation that never comes
//! from the value it judges.
//!
//! The comment at the head of a rule's file is what `ept-trace explain` prints.

mod ept101;
mod ept102;
mod ept103;
mod ept104;
mod ept105;
mod ept106;
mod ept107;
mod ept108;
mod ept109;
mod ept110;
mod ept120;
mod ept121;
mod ept201;
mod ept202;
mod ept203;
mod ept204;
mod ept301;
mod ept302;
mod ept303;
mod ept304;
mod ept305;
mod ept306;
mod ept307;
mod ept401;
mod ept402;
mod ept403;
mod ept404;
mod ept501;
mod ept502;
mod ept503;
mod history;
mod walks;

use std::borrow::Cow;

use crate::model::{Event, EventKind, Evidence, Judgement, Verdict};
use crate::oracle::Known;

/// A rule.
pub struct Rule {
    /// Such as `EPT103`.
    pub id: &'static str,
    /// A word or two.
    pub name: &'static str,
    /// Its own source, for the explanation.
    source: &'static str,
    /// Judges an observation; `None` if it is not one that this rule is about.
    pub judge: fn(&Event, &Known) -> Option<Judgement>,
}

/// All rules, by id.
pub const RULES: &[Rule] = &[
    ept101::RULE,
    ept102::RULE,
    ept103::RULE,
    ept104::RULE,
    ept105::RULE,
    ept106::RULE,
    ept107::RULE,
    ept108::RULE,
    ept109::RULE,
    ept110::RULE,
    ept120::RULE,
    ept121::RULE,
    ept201::RULE,
    ept202::RULE,
    ept203::RULE,
    ept204::RULE,
    ept301::RULE,
    ept302::RULE,
    ept303::RULE,
    ept304::RULE,
    ept305::RULE,
    ept306::RULE,
    ept307::RULE,
    ept401::RULE,
    ept402::RULE,
    ept403::RULE,
    ept404::RULE,
    ept501::RULE,
    ept502::RULE,
    ept503::RULE,
];

/// The rules that have something to say of a walk.
const OF_WALKS: &[Rule] = &[
    ept301::RULE,
    ept302::RULE,
    ept303::RULE,
    ept304::RULE,
    ept305::RULE,
    ept306::RULE,
    ept307::RULE,
];

/// The rules that have something to say of a change of an entry.
const OF_CHANGES: &[Rule] = &[ept401::RULE, ept402::RULE, ept403::RULE, ept404::RULE];

/// The rules to ask about an observation. There are millions of walks and of changes in a log, and to
/// ask all rules of each costs more than to read it.
fn to_ask(of: &EventKind) -> &'static [Rule] {
    match of {
        EventKind::Walk(_) => OF_WALKS,
        EventKind::SpteChange(_) => OF_CHANGES,
        _ => RULES,
    }
}

/// What the rules say of an observation. Nearly all changes fit, and of those the same is said.
pub fn ask(event: &Event, known: &Known) -> Cow<'static, [Judgement]> {
    if let EventKind::SpteChange(change) = &event.kind
        && history::fits(known)
        && !ept403::is_about(change)
    {
        return Cow::Borrowed(&history::FITS);
    }
    let rules = to_ask(&event.kind);
    // Most have something to say: so there is one allocation.
    let mut judgements = Vec::with_capacity(rules.len().min(8));
    judgements.extend(rules.iter().filter_map(|rule| (rule.judge)(event, known)));
    Cow::Owned(judgements)
}

impl Rule {
    /// The rule with this id, in either case.
    pub fn find(id: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
    }

    /// What it judges, why that matters, on what evidence, and what to do.
    pub fn explanation(&self) -> String {
        self.source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Holds all values that are known of one thing against each other: what, value, and where it
    /// is from. `agreed` puts it into words when they are the same.
    fn all_agree<T: Copy + PartialEq>(
        &self,
        values: &[(&str, Option<T>, &str)],
        show: impl Fn(T) -> String,
        agreed: impl Fn(&str) -> String,
    ) -> Option<Judgement> {
        let known =
            || values.iter().filter_map(|(what, value, from)| Some((*what, (*value)?, *from)));
        let (_, first, _) = known().next()?;
        let evidence = known().map(|(what, value, from)| Evidence::new(what, show(value), from));
        let evidence = evidence.collect();
        if known().all(|(_, value, _)| value == first) {
            return Some(self.says(Verdict::Ok, agreed(&show(first)), evidence));
        }
        let told: Vec<_> =
            known().map(|(what, value, _)| format!("{what} {}", show(value))).collect();
        Some(self.says(Verdict::Mismatch, told.join(", "), evidence))
    }

    fn says(
        &self,
        verdict: Verdict,
        message: impl Into<Cow<'static, str>>,
        evidence: Vec<Evidence>,
    ) -> Judgement {
        Judgement { rule: self.id, verdict, message: message.into(), evidence, known: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_once() {
        assert!(RULES.is_sorted_by(|a, b| a.id < b.id));
    }

    #[test]
    fn no_rule_of_walks_or_changes_is_left_out_where_they_are_judged() {
        let ids = |rules: &[Rule]| rules.iter().map(|rule| rule.id).collect::<Vec<_>>();
        let family = |prefix: &str| {
            let all = ids(RULES).into_iter();
            all.filter(|id| id.starts_with(prefix)).collect::<Vec<_>>()
        };
        assert_eq!(ids(OF_WALKS), family("EPT3"));
        assert_eq!(ids(OF_CHANGES), family("EPT4"));
    }

    #[test]
    fn what_is_said_of_a_change_that_fits_is_what_its_rules_say() {
        let is_shared = |kinds| {
            let mut is_shared = Vec::new();
            history::samples::follow(kinds, |event, known| {
                let rules = to_ask(&event.kind).iter();
                let said: Vec<_> = rules.filter_map(|rule| (rule.judge)(event, known)).collect();
                let asked = ask(event, known);
                assert_eq!(asked, said);
                is_shared.push(matches!(asked, Cow::Borrowed(_)));
            });
            is_shared
        };
        let mut kinds = history::samples::healthy();
        assert_eq!(is_shared(kinds.clone())[..14], [true; 14], "VM and stream end after that");
        if let EventKind::SpteChange(change) = &mut kinds[2] {
            change.new |= 1 << 7;
        }
        assert!(!is_shared(kinds.clone())[2], "of a large page another rule speaks as well");
        kinds.remove(3);
        let wrong = is_shared(kinds);
        assert!(wrong[2..4].iter().all(|is_shared| !is_shared), "{wrong:?}");
    }

    #[test]
    fn every_rule_explains_itself() {
        for rule in RULES {
            let text = rule.explanation();
            for part in ["What it judges", "Why it matters", "Evidence", "What to do"] {
                assert!(text.contains(part), "{} has no part `{part}`", rule.id);
            }
            assert!(text.starts_with(&format!("{} {}", rule.id, rule.name)), "{}", rule.id);
        }
    }
}
