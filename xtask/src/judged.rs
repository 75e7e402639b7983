//! What `ept-trace -j` said: its JSON lines, as far as other verbs ask.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Everything of one run.
#[derive(Debug, Default)]
pub struct Report {
    /// Of the machine, once a vendor module was loaded.
    pub facts: Option<Facts>,
    /// Every entry to a `hardware_setup`, as `module:function`.
    pub hardware_setups: Vec<String>,
    /// Every decision.
    pub decisions: Vec<Decision>,
    /// Walks that were judged.
    pub walks: u64,
    /// Of those, the ones that others may have changed meanwhile, and which is said of them.
    pub raced: u64,
    /// The counts at the end.
    pub summary: Option<Summary>,
    /// What came of the scenarios.
    pub scenarios: Vec<Scenario>,
    /// All that was wrong or undetermined, was lost or went unseen, a line each. What is advisory
    /// is legal.
    pub faults: Vec<String>,
}

/// What is known of a machine.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// `"vmx"`, `"svm"`, `"none"`, or an object for any other.
    pub vendor: Value,
    pub behaviour: Behaviour,
    pub kvm: Kvm,
}

/// How a kernel decides, by what is present in it.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is the presence of one thing")]
pub struct Behaviour {
    has_tdp_root_level: bool,
    has_max_tdp_level: bool,
    has_cached_tdp_level: bool,
    has_maxguestphyaddr: bool,
}

/// KVM's own variables.
#[derive(Debug, Deserialize)]
pub struct Kvm {
    /// `{"known": {"value": ...}}` or `{"unknown": {"why": ...}}`.
    pub tdp_enabled: Value,
}

/// What came of a scenario of `check`.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    #[serde(rename = "scenario")]
    pub name: String,
    /// `passed`, `failed`, `incomplete` or `skipped`.
    pub outcome: String,
    pub seconds: f64,
}

/// One choice of a root level.
#[derive(Debug, Deserialize)]
pub struct Decision {
    pub maxphyaddr: Option<u32>,
    pub root_level: Option<u8>,
    pub verdict: String,
}

/// The counts at the end.
#[derive(Debug, Deserialize)]
pub struct Summary {
    pub decisions: u64,
    lost: u64,
    pub hooks: Vec<HookCounts>,
}

/// What became of a hook's calls.
#[derive(Debug, Deserialize)]
pub struct HookCounts {
    pub hook: String,
    pub fired: u64,
    delivered: u64,
    filtered: u64,
    dropped: u64,
    missed: u64,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Setup {
        what: String,
        function: Option<String>,
        facts: Option<Facts>,
        verdict: String,
    },
    Decision(Decision),
    Walk {},
    Finding {
        rule: String,
        verdict: String,
        message: String,
    },
    Loss {
        hook: String,
        records: u64,
    },
    Gap {
        reason: String,
    },
    Summary(Summary),
    Scenario(Scenario),
    #[serde(other)]
    Other,
}

impl Behaviour {
    /// The decision's era, by the letter that `docs/kernels.md` gives it.
    pub fn era(&self) -> char {
        match self {
            Self { has_maxguestphyaddr: true, .. } => 'E',
            Self { has_tdp_root_level: true, .. } => 'D',
            Self { has_max_tdp_level: true, .. } => 'C',
            Self { has_cached_tdp_level: true, .. } => 'B',
            Self { .. } => 'A',
        }
    }
}

impl HookCounts {
    fn fault(&self) -> Option<String> {
        let lost = self.dropped + self.missed;
        if self.fired != self.delivered + self.filtered + lost {
            return Some(format!("the counts of {} do not add up", self.hook));
        }
        (lost > 0).then(|| format!("{lost} calls of {} were not seen", self.hook))
    }
}

impl Report {
    /// Reads what a run printed.
    pub fn parse(text: &str) -> Result<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let parsed = serde_json::from_str(line)
                .with_context(|| format!("not a line of `ept-trace -j`: {line}"))?;
            report.add(parsed);
        }
        Ok(report)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Setup { what, function, facts, verdict } => {
                if verdict != "ok" {
                    self.faults.push(format!("set-up ({what}) is {verdict}"));
                }
                self.hardware_setups.extend(function);
                if let Some(facts) = facts.filter(|facts| facts.vendor != "none") {
                    self.facts = Some(facts);
                }
            }
            Line::Decision(decision) => {
                if !is_fine(&decision.verdict) {
                    let Decision { maxphyaddr, root_level, verdict } = &decision;
                    let (bits, level) = (or_unknown(*maxphyaddr), or_unknown(*root_level));
                    self.faults
                        .push(format!("root level {level} for MAXPHYADDR {bits} is {verdict}"));
                }
                self.decisions.push(decision);
            }
            Line::Walk {} => self.walks += 1,
            Line::Finding { verdict, .. } if is_fine(&verdict) => {}
            Line::Finding { verdict, message, .. } if is_race(&verdict, &message) => {
                self.raced += 1;
            }
            Line::Finding { rule, verdict, message } => {
                self.faults.push(format!("{rule} {verdict}: {message}"));
            }
            Line::Loss { hook, records } => {
                self.faults.push(format!("{records} records of {hook} are lost"));
            }
            Line::Gap { reason } => self.faults.push(format!("a gap: {reason}")),
            Line::Summary(summary) => {
                self.faults.extend(summary.faults());
                self.summary = Some(summary);
            }
            Line::Scenario(scenario) => self.scenarios.push(scenario),
            Line::Other => {}
        }
    }

    /// The values of MAXPHYADDR for which each root level was chosen.
    pub fn by_level(&self) -> BTreeMap<u8, BTreeSet<u32>> {
        let mut levels: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        for decision in &self.decisions {
            if let (Some(bits), Some(level)) = (decision.maxphyaddr, decision.root_level) {
                levels.entry(level).or_default().insert(bits);
            }
        }
        levels
    }
}

impl Summary {
    fn faults(&self) -> Vec<String> {
        let lost = (self.lost > 0).then(|| format!("{} records are lost", self.lost));
        lost.into_iter().chain(self.hooks.iter().filter_map(HookCounts::fault)).collect()
    }
}

/// An advisory is legal, and may be what the kernel at hand calls for.
fn is_fine(verdict: &str) -> bool {
    matches!(verdict, "ok" | "advisory")
}

/// A walk of which nothing can be said because of what others did meanwhile, as its rule says it.
fn is_race(verdict: &str, message: &str) -> bool {
    verdict == "undetermined" && message.contains(", which may be")
}

fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(vendor: &str) -> String {
        format!(
            r#"{{"type":"setup","what":"facts","verdict":"ok","facts":{{"release":"6.12","vendor":{vendor},
            "behaviour":{{"has_tdp_root_level":true,"has_max_tdp_level":true,
            "has_cached_tdp_level":false,"has_maxguestphyaddr":false}},
            "kvm":{{"tdp_enabled":{{"known":{{"value":true,"origin":"x"}}}}}}}}}}"#
        )
        .replace('\n', "")
    }

    fn summary(fired: u64, missed: u64, lost: u64) -> String {
        format!(
            r#"{{"type":"summary","decisions":1,"lost":{lost},"gaps":0,"hooks":[{{"hook":"h",
            "fired":{fired},"delivered":1,"filtered":0,"dropped":0,"missed":{missed}}}]}}"#
        )
        .replace('\n', "")
    }

    const DECISION: &str =
        r#"{"type":"decision","vm":1,"maxphyaddr":49,"root_level":5,"verdict":"ok"}"#;

    fn faults(lines: &[&str]) -> Vec<String> {
        Report::parse(&lines.join("\n")).map(|report| report.faults).unwrap_or_default()
    }

    #[test]
    fn a_clean_run_has_no_faults() {
        let hook = r#"{"type":"hook","hook":"h","attached":true,"how":"kprobe"}"#;
        let setup =
            r#"{"type":"setup","what":"hardware_setup","function":"kvm_amd:f","verdict":"ok"}"#;
        let (svm, none, summary) = (facts("\"svm\""), facts("\"none\""), summary(1, 0, 0));
        let text = [hook, &svm, &none, setup, DECISION, &summary].join("\n");
        let report = Report::parse(&text).unwrap_or_default();
        assert_eq!(report.faults, Vec::<String>::new());
        assert_eq!(report.facts.map(|facts| facts.behaviour.era()), Some('D'));
        assert_eq!(report.hardware_setups, ["kvm_amd:f"]);
        assert_eq!(report.decisions.len(), 1);
    }

    #[test]
    fn whatever_is_not_ok_or_lost_is_a_fault() {
        let undetermined = DECISION.replace("\"ok\"", "\"undetermined\"");
        assert_eq!(faults(&[&undetermined]), ["root level 5 for MAXPHYADDR 49 is undetermined"]);
        assert_eq!(faults(&[&summary(1, 0, 3)]), ["3 records are lost"]);
        assert_eq!(faults(&[&summary(2, 0, 0)]), ["the counts of h do not add up"]);
        assert_eq!(faults(&[&summary(2, 1, 0)]), ["1 calls of h were not seen"]);
        let gap = r#"{"type":"gap","time_ns":1,"reason":"rmmod"}"#;
        assert_eq!(faults(&[gap]), ["a gap: rmmod"]);
    }

    #[test]
    fn what_is_advisory_is_no_fault() {
        let advisory = DECISION.replace("\"ok\"", "\"advisory\"");
        let finding = r#"{"type":"finding","rule":"EPT120","verdict":"advisory","message":"x"}"#;
        assert_eq!(faults(&[&advisory, finding]), Vec::<String>::new());
    }

    #[test]
    fn a_raced_walk_is_counted_and_no_fault() {
        let finding = |message: &str, verdict: &str| {
            format!(
                r#"{{"type":"finding","rule":"EPT302","verdict":"{verdict}","message":"{message}"}}"#
            )
        };
        let walk = r#"{"type":"walk","vm":1,"verdict":"undetermined"}"#;
        let raced = finding("GPA 0x1000: not there, which may be right: a race", "undetermined");
        let report = Report::parse(&[walk, &raced, walk].join("\n")).unwrap_or_default();
        assert_eq!((report.walks, report.raced, report.faults.len()), (2, 1, 0));
        for (message, verdict) in
            [("the masks are not known", "undetermined"), ("it faults, which may be", "mismatch")]
        {
            assert_eq!(faults(&[walk, &finding(message, verdict)]).len(), 1, "{message}");
        }
    }

    #[test]
    fn levels_gather_their_maxphyaddrs() {
        let other = DECISION.replace("49", "36").replace(":5,", ":4,");
        let report = Report::parse(&[DECISION, DECISION, &other].join("\n")).unwrap_or_default();
        let expected = BTreeMap::from([(4, BTreeSet::from([36])), (5, BTreeSet::from([49]))]);
        assert_eq!(report.by_level(), expected);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(Report::parse("36 decisions").is_err());
    }
}
