//! Known findings: what somebody has looked at, and accepts for a reason.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::model::{Judgement, Verdict};
use crate::rules::Rule;

/// Findings that are known, each with a reason. `docs/ci.md` describes the file.
#[derive(Debug, Default)]
pub struct Baseline {
    entries: Vec<Entry>,
}

/// A known finding.
#[derive(Debug)]
struct Entry {
    /// Line of the file, from 1.
    line: usize,
    rule: &'static str,
    reason: String,
    only: Only,
    /// There was something that it could have matched.
    could: bool,
    has_matched: bool,
}

/// What a finding must be besides of the rule.
#[derive(Debug, Default)]
struct Only {
    scenario: Option<String>,
    kernel: Option<String>,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Spanned<Known>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    rule: Spanned<String>,
    reason: Spanned<String>,
    scenario: Option<Spanned<String>>,
    kernel: Option<String>,
    text: Option<String>,
}

/// What is wrong in a file of known findings.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadBaseline {
    line: usize,
    why: String,
}

impl Baseline {
    /// Reads the text of a file. Scenarios must be among those that `is_scenario` knows.
    ///
    /// # Errors
    ///
    /// If it is not TOML, or has other keys, a rule or a scenario that there is not, or no reason.
    pub fn parse(text: &str, is_scenario: impl Fn(&str) -> bool) -> Result<Self, BadBaseline> {
        let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        let bad = |at: Range<usize>, why: String| BadBaseline { line: line(at.start), why };
        let file: File = toml::from_str(text)
            .map_err(|err| bad(err.span().unwrap_or_default(), err.message().replace('\n', " ")))?;
        let mut entries = Vec::new();
        for spanned in file.known {
            let at = spanned.span();
            let Known { rule, reason, scenario, kernel, text } = spanned.into_inner();
            let Some(known) = Rule::find(rule.get_ref()) else {
                let why = format!("no rule {}; `ept-trace explain` lists them", rule.get_ref());
                return Err(bad(rule.span(), why));
            };
            if reason.get_ref().trim().is_empty() {
                let why = "a reason is needed, for those who come later".to_owned();
                return Err(bad(reason.span(), why));
            }
            if let Some(scenario) = &scenario
                && !is_scenario(scenario.get_ref())
            {
                let name = scenario.get_ref();
                let why = format!("no scenario {name}; `ept-trace check --list` shows them");
                return Err(bad(scenario.span(), why));
            }
            entries.push(Entry {
                line: line(at.start),
                rule: known.id,
                reason: reason.into_inner(),
                only: Only { scenario: scenario.map(Spanned::into_inner), kernel, text },
                could: false,
                has_matched: false,
            });
        }
        Ok(Self { entries })
    }

    /// Marks those judgements of an observation that are known, which was made on this kernel
    /// (`uname -r`), and in this scenario.
    pub(super) fn mark(
        &mut self,
        judgements: &mut [Judgement],
        kernel: Option<&str>,
        scenario: Option<&str>,
    ) {
        for entry in self.entries.iter_mut().filter(|entry| entry.only.holds(kernel, scenario)) {
            entry.could = true;
            let is_this = |found: &&mut Judgement| {
                matches!(found.verdict, Verdict::Mismatch | Verdict::Advisory)
                    && found.rule == entry.rule
                    && entry.only.text.as_deref().is_none_or(|text| found.message.contains(text))
            };
            for found in judgements.iter_mut().filter(is_this) {
                entry.has_matched = true;
                found.known.get_or_insert_with(|| entry.reason.as_str().into());
            }
        }
    }

    /// What could have matched, and did not: a line for each.
    pub(super) fn stale(&self) -> Vec<String> {
        let is_stale = |entry: &&Entry| entry.could && !entry.has_matched;
        let describe =
            |entry: &Entry| format!("line {}: {}: {}", entry.line, entry.rule, entry.reason.trim());
        self.entries.iter().filter(is_stale).map(describe).collect()
    }
}

impl Only {
    fn holds(&self, kernel: Option<&str>, scenario: Option<&str>) -> bool {
        let is_kernel = |wanted: &str| kernel.is_some_and(|release| is_of(release, wanted));
        self.scenario.as_deref().is_none_or(|wanted| scenario == Some(wanted))
            && self.kernel.as_deref().is_none_or(is_kernel)
    }
}

/// Whether a release is of this series: `6.12.43-amd64` is of `6.12`, and not of `6.1`.
fn is_of(release: &str, series: &str) -> bool {
    let rest = release.strip_prefix(series);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
        [[known]]\nrule = \"ept103\"\nreason = \"our patch\"\nkernel = \"6.1\"\ntext = \"is 4\"\n\n\
        [[known]]\nrule = \"EPT120\"\nreason = \"old guests\"\nscenario = \"huge\"\n";

    fn parse(text: &str) -> Result<Baseline, String> {
        Baseline::parse(text, |name| name == "huge").map_err(|err| err.to_string())
    }

    fn says(rule: &'static str, verdict: Verdict, message: &'static str) -> Judgement {
        Judgement { rule, verdict, message: message.into(), evidence: vec![], known: None }
    }

    #[test]
    fn what_fits_in_all_is_known_and_nothing_else() {
        let known = |rule, verdict, message, kernel, scenario| {
            let mut baseline = parse(FILE).unwrap();
            let mut judgements = [says(rule, verdict, message)];
            baseline.mark(&mut judgements, kernel, scenario);
            judgements[0].known.as_deref().map(str::to_owned)
        };
        let (mismatch, advisory) = (Verdict::Mismatch, Verdict::Advisory);
        let message = "root level is 4, should be 5";
        let ours = Some("6.1.0-49-amd64");
        let reason = Some("our patch".to_owned());
        assert_eq!(known("EPT103", mismatch, message, ours, None), reason);
        assert_eq!(known("EPT103", mismatch, message, Some("6.1"), Some("mmio")), reason);
        assert_eq!(known("EPT103", mismatch, message, Some("6.12.43"), None), None);
        assert_eq!(known("EPT103", mismatch, message, None, None), None);
        assert_eq!(known("EPT103", mismatch, "root level is 5", ours, None), None);
        assert_eq!(known("EPT104", mismatch, message, ours, None), None);
        assert_eq!(known("EPT103", Verdict::Undetermined, message, ours, None), None);
        let huge = Some("huge");
        assert_eq!(known("EPT120", advisory, "", None, huge), Some("old guests".to_owned()));
        assert_eq!(known("EPT120", advisory, "", None, None), None);
    }

    #[test]
    fn stale_is_what_could_have_matched() {
        let mut baseline = parse(FILE).unwrap();
        assert_eq!(baseline.stale(), Vec::<String>::new(), "nothing was observed");
        baseline.mark(&mut [], Some("6.1"), Some("huge"));
        assert_eq!(baseline.stale(), ["line 1: EPT103: our patch", "line 7: EPT120: old guests"]);
        baseline.mark(&mut [says("EPT120", Verdict::Mismatch, "")], Some("6.1"), Some("huge"));
        assert_eq!(baseline.stale(), ["line 1: EPT103: our patch"]);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        let why = |text: &str| parse(text).expect_err(text);
        assert!(parse("").is_ok() && parse("# nothing\n").is_ok());
        let missing = why("\n[[known]]\nrule = \"EPT103\"\n");
        assert!(missing.starts_with("line 2: ") && missing.contains("reason"), "{missing}");
        let empty = "[[known]]\nrule = \"EPT103\"\nreason = \" \"\n";
        assert!(why(empty).starts_with("line 3: a reason is needed"), "{}", why(empty));
        let other = "[[known]]\nreason = \"x\"\nrule = \"EPT999\"\n";
        assert!(why(other).starts_with("line 3: no rule EPT999"), "{}", why(other));
        let scenario = "[[known]]\nrule = \"EPT103\"\nreason = \"x\"\nscenario = \"hugh\"\n";
        assert!(why(scenario).starts_with("line 4: no scenario hugh"), "{}", why(scenario));
        for wrong in ["[[known]]\nrules = 1\n", "known = 1", "[[know]]\n", "[[known", "\u{0}"] {
            assert!(why(wrong).starts_with("line 1: ") || wrong.contains("rules"), "{wrong}");
        }
    }
}
