//! For a person at a terminal: what is wrong first, its evidence beneath it, then the counts.

use std::io::{self, Write};

use super::advice::advice;
use super::cases::{occurrence, repeat_with};
use super::digest::{Counts, Digest, Group};
use super::outcome::{Outcome, sentence};
use super::plain::Plain;
use super::words::{count, count_as, rule_name, seconds};
use crate::analysis::{LevelShape, Summary};
use crate::model::{Case, Verdict};

/// Writes the report.
pub(super) fn write(
    digest: &Digest,
    summary: &Summary,
    colour: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut page = Page { digest, colour, out };
    page.head(summary)?;
    page.scenarios()?;
    page.findings(Verdict::Mismatch, "Findings")?;
    page.findings(Verdict::Advisory, "Advisories: legal, and will hurt someone")?;
    page.known(summary)?;
    page.undetermined()?;
    page.complaints()?;
    page.missing()?;
    page.rules()?;
    page.events(summary)
}

struct Page<'a, W> {
    digest: &'a Digest,
    colour: bool,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    fn coloured(&self, text: &str, verdict: Verdict) -> String {
        let colour = match verdict {
            Verdict::Ok => 32,
            Verdict::Advisory | Verdict::Undetermined => 33,
            Verdict::Mismatch => 31,
        };
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn head(&mut self, summary: &Summary) -> io::Result<()> {
        let sentence = sentence(self.digest, summary);
        let outcome = Outcome::of(self.digest, summary);
        let word = outcome.word();
        let verdict = match outcome {
            Outcome::Mismatch | Outcome::Failed => Verdict::Mismatch,
            Outcome::Incomplete | Outcome::Skipped | Outcome::Undetermined | Outcome::Nothing => {
                Verdict::Undetermined
            }
            Outcome::Clean => Verdict::Ok,
        };
        let rest = sentence.strip_prefix(word).unwrap_or_default();
        writeln!(self.out, "{}{rest}", self.coloured(word, verdict))?;
        for source in &self.digest.sources {
            write!(self.out, "  {}: {}", source.name(), count(source.events, "observation"))?;
            if let Some((first, last)) = source.span {
                write!(self.out, ", {} to {} s", seconds(first), seconds(last))?;
            }
            if let Some(machine) = source.machine() {
                write!(self.out, ", {machine}")?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn scenarios(&mut self) -> io::Result<()> {
        if self.digest.scenarios().next().is_none() {
            return Ok(());
        }
        writeln!(self.out, "\n{:<12} {:<10} {:>7} {:>8}", "scenario", "", "passed", "seconds")?;
        for result in self.digest.scenarios() {
            let passed = format!("{}/{}", result.passed(), result.cases.len());
            let took = result.took.as_secs_f64();
            writeln!(
                self.out,
                "{:<12} {:<10} {passed:>7} {took:>8.1}",
                result.name,
                result.word()
            )?;
            for Case { name, outcome, .. } in &result.cases {
                if let Some(why) = outcome.reason() {
                    writeln!(self.out, "  {name}: {}: {why}", outcome.word())?;
                }
            }
            if result.mismatches > 0 {
                writeln!(self.out, "  {}", count_as(result.mismatches, "mismatch", "mismatches"))?;
            }
            if result.is_bad() {
                writeln!(self.out, "  {}", repeat_with(result))?;
            }
        }
        Ok(())
    }

    fn known(&mut self, summary: &Summary) -> io::Result<()> {
        let groups = self.digest.findings.known();
        if !groups.is_empty() {
            writeln!(self.out, "\nKnown: in the baseline, each for a reason")?;
        }
        for group in groups {
            let (name, verdict) = (rule_name(group.rule), group.verdict);
            let message = &group.first.message;
            writeln!(self.out, "  {} {name}  {verdict}: {message}", group.rule)?;
            if let Some(reason) = &group.known {
                writeln!(self.out, "    known: {reason}")?;
            }
            writeln!(self.out, "    {}", occurrence(group))?;
        }
        if !summary.stale.is_empty() {
            writeln!(self.out, "\nIn the baseline, and not found")?;
        }
        for stale in &summary.stale {
            writeln!(self.out, "  {}", Plain::of(stale))?;
        }
        Ok(())
    }

    fn findings(&mut self, verdict: Verdict, title: &str) -> io::Result<()> {
        let groups = self.digest.findings.with(verdict);
        if groups.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "\n{title}")?;
        for group in groups {
            self.finding(group)?;
        }
        self.left_out(verdict)
    }

    fn finding(&mut self, group: &Group) -> io::Result<()> {
        let example = &group.first;
        let name = rule_name(group.rule);
        let verdict = self.coloured(&group.verdict.to_string(), group.verdict);
        writeln!(self.out, "\n  {} {name}  {verdict}: {}", group.rule, example.message)?;
        write!(self.out, "    at {} s: {}", seconds(example.time_ns), example.about)?;
        match example.scenario {
            Some(scenario) => writeln!(self.out, ", in scenario {scenario}")?,
            None => writeln!(self.out)?,
        }
        if self.digest.sources.len() > 1 {
            writeln!(self.out, "    in {}", self.name(group.source))?;
        }
        for piece in &example.evidence {
            let (what, value, origin) = (&piece.what, &piece.value, &piece.origin);
            writeln!(self.out, "      {what} = {value}  ({origin})")?;
        }
        if example.more_evidence > 0 {
            writeln!(self.out, "      and {} more", example.more_evidence)?;
        }
        self.more_like_this(group)
    }

    fn more_like_this(&mut self, group: &Group) -> io::Result<()> {
        if group.count == 1 {
            return Ok(());
        }
        let last = seconds(group.last_ns);
        writeln!(self.out, "    {} more like this, the last at {last} s", group.count - 1)
    }

    fn undetermined(&mut self) -> io::Result<()> {
        let groups = self.digest.findings.with(Verdict::Undetermined);
        if groups.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "\nUndetermined: a fact is missing")?;
        for group in &groups {
            let name = rule_name(group.rule);
            let message = &group.first.message;
            let times = count(group.count, "time");
            writeln!(self.out, "  {} {name}, {times}: {message}", group.rule)?;
        }
        self.left_out(Verdict::Undetermined)?;
        let messages = groups.iter().map(|group| group.first.message.as_str());
        for advice in advice(messages) {
            writeln!(self.out, "  add {}: {}", advice.add, advice.tells)?;
        }
        Ok(())
    }

    fn left_out(&mut self, verdict: Verdict) -> io::Result<()> {
        match self.digest.findings.left_out(verdict) {
            0 => Ok(()),
            more => writeln!(self.out, "  and {more} of other kinds, which are only counted"),
        }
    }

    fn complaints(&mut self) -> io::Result<()> {
        let complaints = &self.digest.complaints;
        if complaints.count() == 0 {
            return Ok(());
        }
        writeln!(self.out, "\nComplaints, by themselves")?;
        for complaint in complaints.first() {
            let (by, text) = (&complaint.by, &complaint.text);
            writeln!(self.out, "  at {} s, {by}: {text}", seconds(complaint.first_ns))?;
            if complaint.count > 1 {
                let (more, last) = (complaint.count - 1, seconds(complaint.last_ns));
                writeln!(self.out, "    {more} more like this, the last at {last} s")?;
            }
        }
        if complaints.left_out > 0 {
            writeln!(self.out, "  and {} in other words", complaints.left_out)?;
        }
        Ok(())
    }

    fn missing(&mut self) -> io::Result<()> {
        let incomplete = || self.digest.sources.iter().filter(|source| source.is_incomplete());
        if incomplete().next().is_none() {
            return Ok(());
        }
        writeln!(self.out, "\nNot seen")?;
        for source in incomplete() {
            let name = source.name();
            for line in source.not_seen() {
                writeln!(self.out, "  {name}: {line}")?;
            }
        }
        Ok(())
    }

    fn rules(&mut self) -> io::Result<()> {
        let rules = self.digest.rules();
        if rules.is_empty() {
            return Ok(());
        }
        writeln!(
            self.out,
            "\n{:<30} {:>9} {:>13} {:>9} {:>10}",
            "rule", "mismatch", "undetermined", "advisory", "ok"
        )?;
        for (id, counts) in rules {
            let rule = format!("{id} {}", rule_name(id));
            let Counts { ok, advisory, undetermined, mismatch, known } = counts;
            let mismatch = mismatch + known;
            writeln!(
                self.out,
                "{rule:<30} {mismatch:>9} {undetermined:>13} {advisory:>9} {ok:>10}"
            )?;
        }
        Ok(())
    }

    fn events(&mut self, summary: &Summary) -> io::Result<()> {
        let events = &self.digest.events;
        let counts: Vec<_> =
            events.iter().map(|(kind, number)| format!("{kind} {number}")).collect();
        if !counts.is_empty() {
            writeln!(self.out, "\n{}", counts.join(", "))?;
        }
        for (why, number) in &summary.not_judged {
            writeln!(self.out, "not judged: {}: {}", count(*number, "walk"), Plain::of(why))?;
        }
        for LevelShape { vm, level, tables, leaves } in &summary.shape {
            let (tables, leaves) = (count(*tables, "table"), count(*leaves, "page"));
            writeln!(self.out, "VM {vm}, level {level}: {tables}, {leaves} mapped")?;
        }
        for hook in summary.hooks.iter().filter(|hook| hook.lost() > 0) {
            let name = Plain::of(&hook.hook);
            writeln!(self.out, "{name}: {} of {} calls were lost", hook.lost(), hook.fired)?;
        }
        Ok(())
    }

    fn name(&self, source: usize) -> Plain {
        self.digest.sources.get(source).map_or_else(|| Plain::of(""), super::digest::Source::name)
    }
}
