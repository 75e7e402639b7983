//! EPT404 use-after-zap: no entry is set in a table that was zapped.
//!
//! What it judges
//!   Each entry that the TDP MMU sets, against the entry above it: the table that was linked there
//!   must still be.
//!
//! Why it matters
//!   A zapped table is freed, and is soon somebody else's page: the entry is written into it. What
//!   the guest then writes goes to memory that is no longer its own.
//!
//! Evidence
//!   As for EPT401. An entry may be set while its table is being zapped, and is then zapped with it;
//!   so only one that is still there a second later, or when the VM goes, is reported.
//!
//! What to do
//!   Keep the recording: the changes around the finding show which path has zapped the table and
//!   which has written to it. Report both with the kernel's version.

use super::Rule;
use super::history;
use crate::model::{Event, Judgement};
use crate::oracle::{Fault, Finding, Known};

pub(super) const RULE: Rule =
    Rule { id: "EPT404", name: "use-after-zap", source: include_str!("ept404.rs"), judge };

fn judge(event: &Event, known: &Known) -> Option<Judgement> {
    let is_of_rule = |fault| fault == Fault::Zapped;
    history::judge(&RULE, event, known, (is_of_rule, words))
}

fn words(found: &Finding) -> String {
    let above = found.change.level + 1;
    format!("an entry is set in a table that is no longer linked at level {above}, and stays")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;
    use crate::rules::history::samples::judge;

    #[test]
    fn an_entry_in_a_zapped_table_is_found() {
        assert_eq!(judge(&RULE, |_| {}), Some(Verdict::Ok));
        // The last setting of a page comes after its table was zapped.
        let after = judge(&RULE, |kinds| {
            let set = kinds.remove(7);
            kinds.insert(10, set);
            kinds.remove(7);
        });
        assert_eq!(after, Some(Verdict::Mismatch));
    }

    #[test]
    fn an_entry_that_is_zapped_with_its_table_is_none() {
        let raced = judge(&RULE, |kinds| {
            let (set, emptied) = (kinds.remove(7), kinds.remove(7));
            kinds.insert(9, emptied);
            kinds.insert(9, set);
        });
        assert_eq!(raced, Some(Verdict::Ok));
    }
}
