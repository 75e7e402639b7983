//! EPT305 depth: each step of a walk goes one level down, from the level of the root.
//!
//! What it judges
//!   The pages that a walk reads entries from: the level in the kvm_mmu_page_role of each, against the
//!   level that it has in the walk.
//!
//! Why it matters
//!   An entry that leads to its own table, to a table of another level, or to a page that is no table
//!   at all maps memory of anybody to the guest.
//!
//! Evidence
//!   Each page's role is in KVM's own struct kvm_mmu_page, which struct page leads to. Where that is
//!   not known (kernels without BTF of kvm), an entry that leads back to a table of the same walk is
//!   found all the same.
//!
//! What to do
//!   The finding names the table. Look for who has written the entry that leads to it; if every table
//!   is one level off, for the walk length of the EPTP (EPT202).

use super::Rule;
use super::walks::{evidence, race, translated};
use crate::ept::Step;
use crate::model::{Event, Evidence, Judgement, Verdict};
use crate::oracle::Known;

pub(super) const RULE: Rule =
    Rule { id: "EPT305", name: "depth", source: include_str!("ept305.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let (walk, translated) = translated(event, known)?;
    let roles = walk.roles.iter().map(|role| Some(*role)).chain(std::iter::repeat(None));
    let mut tables = translated.trail.iter().zip(roles).enumerate();
    let Some(wrong) = tables.find_map(|(number, (step, role))| {
        let before = translated.trail.get(..number)?;
        wrong(step, role, before)
    }) else {
        return Some(RULE.says(Verdict::Ok, "one level down at each step", vec![]));
    };
    let mut evidence = evidence(walk, translated);
    for (step, role) in translated.trail.iter().zip(&walk.roles) {
        let what = format!("role of table {}", step.table);
        evidence.push(Evidence::new(&what, format!("{role:#x}"), "kvm_mmu_page_role"));
    }
    let gpa = walk.gpa;
    Some(match race(walk, known) {
        Some(race) => {
            let message = format!("GPA {gpa:#x}: {wrong}, which may be a race: {race}");
            RULE.says(Verdict::Undetermined, message, evidence)
        }
        None => RULE.says(Verdict::Mismatch, format!("GPA {gpa:#x}: {wrong}"), evidence),
    })
}

/// What is wrong with the table that an entry is in, by its role and by the tables before it.
fn wrong(step: &Step, role: Option<u32>, before: &[Step]) -> Option<String> {
    let Step { table, level, .. } = *step;
    if let Some(first) = before.iter().find(|first| first.table == table) {
        return Some(format!(
            "table {table} is walked at level {} and at level {level}",
            first.level
        ));
    }
    match role? {
        0 => Some(format!("page {table}, walked as a table of level {level}, is none")),
        role if role & 0xf == u32::from(level) => None,
        role => {
            let own = role & 0xf;
            Some(format!("table {table} is of level {own}, and walked as one of level {level}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Race, Walk};
    use crate::rules::walks::samples::judge;

    /// The entry of level 2 leads to its own table, as the tables of level 2 and 1 then are one.
    fn to_itself(walk: &mut Walk) {
        walk.entries[2] = walk.entries[1];
        walk.roles[3] = walk.roles[2];
    }

    #[test]
    fn each_wrong_table_is_found() {
        assert_eq!(judge(&RULE, |_, _| {}), Some(Verdict::Ok));
        assert_eq!(judge(&RULE, |walk, _| to_itself(walk)), Some(Verdict::Mismatch));
        let without_roles = judge(&RULE, |walk, _| {
            to_itself(walk);
            walk.roles.clear();
        });
        assert_eq!(without_roles, Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.roles[2] = 0x1a3), Some(Verdict::Mismatch));
        assert_eq!(judge(&RULE, |walk, _| walk.roles[3] = 0), Some(Verdict::Mismatch));
        let raced = judge(&RULE, |walk, _| {
            to_itself(walk);
            walk.races.push(Race::Entries);
        });
        assert_eq!(raced, Some(Verdict::Undetermined));
        assert_eq!(judge(&RULE, |walk, _| walk.roles.clear()), Some(Verdict::Ok));
    }
}
