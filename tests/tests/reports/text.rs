//! The report for a person.

use ept_trace::model::{EventKind, Fact, KernelFacts};
use ept_trace::report::Format;

use super::files::{File, clean, faulty, log};
use super::report;

const TEXT: Format = Format::Text { colour: false };

fn first_line(files: &[File]) -> String {
    report(TEXT, files).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_first_line_is_the_verdict_of_the_whole() {
    assert_eq!(first_line(&clean()), "clean: 44 decisions, 30 walks, nothing wrong");
    assert_eq!(
        first_line(&faulty()),
        "MISMATCH: 2 rules broken, 9 findings; 7 records lost, 1 gap, 1 place of the input not \
         read; 1 judgement undetermined (never judged: EPT106); 2 complaints by kernel or VMM"
    );
    assert_eq!(
        first_line(&[File::new("empty", vec![])]),
        "nothing to judge: no rule is about what was seen"
    );
    let mut cut = clean();
    let gap = EventKind::Gap { reason: "the end is missing".to_owned() };
    cut[0].events.last_mut().unwrap().kind = gap;
    assert_eq!(first_line(&cut), "incomplete: nothing wrong in what was seen; 1 gap");
}

#[test]
fn what_is_missing_is_named_with_the_flag_that_adds_it() {
    let line = "undetermined: nothing wrong was found; 1 judgement undetermined (never judged: \
                EPT103): add --maxphyaddr N";
    assert_eq!(first_line(&log(None)), line);
    let text = report(TEXT, &log(None));
    assert!(text.contains("  EPT103 root-level, 1 time: arch.maxphyaddr is not known"), "{text}");
    assert!(first_line(&log(Some(52))).starts_with("clean: "));
    assert!(first_line(&log(Some(48))).starts_with("MISMATCH: 1 rule broken, 1 finding"));
}

/// Facts that a log does not have.
#[test]
fn the_capability_and_the_facts_can_be_added_too() {
    let without = |forget: fn(&mut KernelFacts)| {
        let mut files = log(Some(52));
        for event in &mut files[0].events {
            if let EventKind::Facts(facts) = &mut event.kind {
                forget(facts);
            }
        }
        first_line(&files)
    };
    let capability = without(|facts| {
        facts.hardware.ept_vpid_cap = Fact::default();
        facts.kvm.vmx_capability_ept = Fact::default();
    });
    assert!(capability.ends_with(": add --ept-cap HEX"), "{capability}");
    let facts = without(|facts| {
        facts.kvm.tdp_enabled = Fact::default();
        facts.hardware.maxphyaddr = Fact::default();
    });
    assert!(facts.ends_with(": add --kernel-facts FILE"), "{facts}");
}

#[test]
fn a_finding_is_told_once_with_its_evidence_and_counted_after() {
    let files = faulty();
    let text = report(TEXT, &files);
    // Those of 4 levels at MAXPHYADDR 49, of which each was observed at a time of its own.
    let decisions = files[0].events.iter().filter_map(|event| match &event.kind {
        EventKind::Decision(decision)
            if decision.maxphyaddr == Some(49) && decision.after.root_level == Some(4) =>
        {
            Some((event.time_ns, decision))
        }
        _ => None,
    });
    let decisions: Vec<_> = decisions.collect();
    let seconds = |(time_ns, _): (u64, _)| {
        format!("{}.{:06}", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000)
    };
    let (first, last) = (seconds(decisions[0]), seconds(decisions[decisions.len() - 1]));
    let (vm, pid, more) = (decisions[0].1.vm, decisions[0].1.pid, decisions.len() - 1);
    let finding = format!(
        "
  EPT103 root-level  MISMATCH: root level is 4, should be 5: max_tdp_level, at MAXPHYADDR 49
    at {first} s: decision VM {vm} (pid {pid}) vCPU 0: MAXPHYADDR 49, tdp, root level 4
      root level = 4  (kvm_init_mmu return)
      expected = 5  (replayed)
      tdp_root_level = 0  (tdp_root_level, read at that moment)
      max_tdp_level = 5  (max_tdp_level, read at that moment)
      MAXPHYADDR = 49  (vcpu->arch.maxphyaddr)
    {more} more like this, the last at {last} s
"
    );
    assert_eq!(text.matches(&finding).count(), 1, "{text}");
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    let parts =
        ["\nFindings", "\nUndetermined", "\nComplaints", "\nNot seen", "\nrule ", "decisions 44"];
    assert!(parts.map(place).is_sorted(), "{text}");
}

#[test]
fn colour_marks_verdicts_alone() {
    let coloured = report(Format::Text { colour: true }, &faulty());
    assert!(coloured.starts_with("\x1b[31mMISMATCH\x1b[0m: 2 rules"));
    let mut plain = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, report(TEXT, &faulty()));
}
