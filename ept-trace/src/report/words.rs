//! Words that reports share.

use crate::rules::Rule;

/// A number of things, in English.
pub(super) fn count(number: u64, what: &str) -> String {
    count_as(number, what, &format!("{what}s"))
}

/// The same, of things whose plural is another.
pub(super) fn count_as(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// A time, in seconds.
pub(super) fn seconds(time_ns: u64) -> String {
    format!("{}.{:06}", time_ns / 1_000_000_000, time_ns / 1_000 % 1_000_000)
}

/// The name of a rule, by its id.
pub(super) fn rule_name(id: &str) -> &'static str {
    Rule::find(id).map_or("", |rule| rule.name)
}

/// What a rule is, in a sentence: the head of its explanation.
pub(super) fn in_short(rule: &Rule) -> String {
    let explanation = rule.explanation();
    let head = explanation.split("\n\n").next().unwrap_or_default();
    unwrapped(head.split_once(": ").map_or(head, |(_, head)| head))
}

/// A part of a rule's explanation, such as `What to do`, as one paragraph.
pub(super) fn part(rule: &Rule, heading: &str) -> String {
    let explanation = rule.explanation();
    let mut parts = explanation.split("\n\n").filter_map(|part| part.split_once('\n'));
    unwrapped(parts.find(|(head, _)| *head == heading).map_or("", |(_, text)| text))
}

fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;

    #[test]
    fn every_rule_has_its_parts() {
        for rule in RULES {
            assert!(in_short(rule).ends_with('.') && !in_short(rule).contains(rule.id));
            for heading in ["What it judges", "Why it matters", "Evidence", "What to do"] {
                assert!(part(rule, heading).ends_with('.'), "{} {heading}", rule.id);
            }
        }
    }
}
