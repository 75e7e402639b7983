//! The oracle on what was observed in all sixteen cells: agrees with the kernels as they are, and
//! disagrees when a single field is another. No kernel is booted here.

use std::collections::BTreeSet;

use ept_trace::analysis::Judged;
use ept_trace::model::{Decision, Event, EventKind, Fact, Judgement, KernelFacts, Vendor, Verdict};
use tests::{Cell, judge};

fn corpus(cell: Cell) -> Vec<Event> {
    cell.corpus().unwrap_or_else(|err| panic!("{cell:?}: {err:#}"))
}

fn decisions(judged: &[Judged]) -> impl Iterator<Item = (&Judged, &Decision)> {
    judged.iter().filter_map(|judged| match &judged.event.kind {
        EventKind::Decision(decision) => Some((judged, &**decision)),
        _ => None,
    })
}

fn not_ok(judged: &Judged) -> impl Iterator<Item = &Judgement> {
    judged.judgements.iter().filter(|judgement| judgement.verdict != Verdict::Ok)
}

/// The rules that call something a mismatch.
fn mismatched(judged: &[Judged]) -> BTreeSet<&'static str> {
    let judgements = judged.iter().flat_map(|judged| &*judged.judgements);
    judgements
        .filter(|judgement| judgement.verdict == Verdict::Mismatch)
        .map(|judgement| judgement.rule)
        .collect()
}

#[test]
fn every_observation_of_every_cell_is_ok_but_for_guests_that_are_not_told() {
    for cell in Cell::all() {
        for judged in judge(corpus(cell)) {
            let expected = match &judged.event.kind {
                EventKind::Decision(decision) => {
                    let sizes = decision.cpuid.and_then(|cpuid| cpuid.address_sizes);
                    let maxphyaddr = decision.maxphyaddr.expect("captured");
                    cell.is_out_of_reach(maxphyaddr, sizes)
                }
                _ => false,
            };
            let rules: Vec<_> = not_ok(&judged).map(|found| (found.rule, found.verdict)).collect();
            let advisory = expected.then_some(("EPT120", Verdict::Advisory));
            assert_eq!(rules, Vec::from_iter(advisory), "{cell:?}: {judged:#?}");
        }
    }
}

#[test]
fn every_decision_has_the_level_that_its_cell_must_have() {
    for cell in Cell::all() {
        let judged = judge(corpus(cell));
        let mut seen = BTreeSet::new();
        for (judged, decision) in decisions(&judged) {
            let maxphyaddr = decision.maxphyaddr.expect("captured");
            assert_eq!(decision.after.root_level, Some(cell.root_level(maxphyaddr)), "{cell:?}");
            assert_eq!(judged.expected_level, decision.after.root_level, "{cell:?}");
            seen.insert(maxphyaddr);
        }
        assert!(seen.is_superset(&BTreeSet::from([36, 48, 49, 52])), "{cell:?}: {seen:?}");
    }
}

#[test]
fn the_set_up_was_seen_in_the_act_in_every_cell() {
    for cell in Cell::all() {
        let judged = judge(corpus(cell));
        let kinds = || judged.iter().map(|judged| &judged.event.kind);
        let setups: Vec<_> = kinds()
            .filter_map(|kind| match kind {
                EventKind::HardwareSetup { function } => Some(function.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(setups, [cell.hardware_setup()], "{cell:?}");
        let configured = judged.iter().find(
            |judged| matches!(judged.event.kind, EventKind::ConfigureMmu(args) if args.enable_tdp),
        );
        let rules: Vec<_> = configured
            .unwrap_or_else(|| panic!("{cell:?}: kvm_configure_mmu was not seen"))
            .judgements
            .iter()
            .map(|judgement| (judgement.rule, judgement.verdict))
            .collect();
        // NPT has no conditions that could be asked for.
        let expected = match cell.cpu {
            "vmx" | "vmx5" => &["EPT104", "EPT105", "EPT107"][..],
            _ => &["EPT104"],
        };
        let expected: Vec<_> = expected.iter().map(|rule| (*rule, Verdict::Ok)).collect();
        assert_eq!(rules, expected, "{cell:?}");
    }
}

/// Changes the last decision of a cell.
fn with_last_decision(cell: Cell, change: impl Fn(&mut Decision)) -> Vec<Event> {
    let mut events = corpus(cell);
    let last = events.iter_mut().rev().find_map(|event| match &mut event.kind {
        EventKind::Decision(decision) => Some(decision),
        _ => None,
    });
    change(last.expect("a decision"));
    events
}

/// Changes the facts of a cell after its vendor module was loaded.
fn with_facts(cell: Cell, change: impl Fn(&mut KernelFacts)) -> Vec<Event> {
    let mut events = corpus(cell);
    let loaded = events.iter_mut().find_map(|event| match &mut event.kind {
        EventKind::Facts(facts) if facts.vendor != Vendor::None => Some(facts),
        _ => None,
    });
    change(loaded.expect("facts of the loaded module"));
    events
}

#[test]
fn another_root_level_is_ept103() {
    for cell in Cell::all() {
        let events = with_last_decision(cell, |decision| {
            decision.after.root_level = decision.after.root_level.map(|level| 9 - level);
        });
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT103"]), "{cell:?}");
    }
}

#[test]
fn another_maxphyaddr_is_ept101_and_where_it_decides_ept103_too() {
    for cell in Cell::all() {
        let small = with_last_decision(cell, |decision| decision.maxphyaddr = Some(40));
        assert_eq!(mismatched(&judge(small)), BTreeSet::from(["EPT101"]), "{cell:?}");

        let large = with_last_decision(cell, |decision| decision.maxphyaddr = Some(52));
        let expected = match (cell.cpu, cell.kernel) {
            // There the role is seen to be as it was, although MAXPHYADDR is another; later
            // kernels wipe it first.
            ("vmx5", "5.10") => BTreeSet::from(["EPT101", "EPT103", "EPT108"]),
            ("vmx5", _) => BTreeSet::from(["EPT101", "EPT103"]),
            _ => BTreeSet::from(["EPT101"]),
        };
        assert_eq!(mismatched(&judge(large)), expected, "{cell:?}");
    }
}

#[test]
fn capability_bit_7_flipped_is_told_by_all_that_hangs_on_it() {
    for cell in Cell::all().filter(|cell| cell.cpu.starts_with("vmx")) {
        let events = with_facts(cell, |facts| {
            facts.hardware.ept_vpid_cap = facts.hardware.ept_vpid_cap.map(|bits| bits ^ 1 << 7);
        });
        // Without the bit there can be no EPTP of 5 levels, nor an L1 that is offered one.
        let expected = match cell.cpu {
            "vmx5" => BTreeSet::from(["EPT104", "EPT106", "EPT201", "EPT502"]),
            _ => BTreeSet::from(["EPT104", "EPT106"]),
        };
        assert_eq!(mismatched(&judge(events)), expected, "{cell:?}");
    }
}

#[test]
fn other_host_paging_is_ept104_for_npt_has_the_hosts_levels() {
    for cell in Cell::all().filter(|cell| cell.cpu.starts_with("svm")) {
        let events = with_facts(cell, |facts| {
            facts.hardware.host_la57 = facts.hardware.host_la57.map(|la57| !la57);
        });
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT104"]), "{cell:?}");
    }
}

#[test]
fn tdp_and_its_vendor_module_at_odds_is_ept105() {
    for cell in Cell::all() {
        let events = with_facts(cell, |facts| {
            facts.kvm.tdp_enabled = Fact::known(false, "changed by the test");
        });
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT105"]), "{cell:?}");
    }
}

#[test]
fn what_is_changed_after_the_set_up_is_found_at_the_next_decision() {
    for cell in Cell::all() {
        let levels = with_last_decision(cell, |decision| {
            let level = decision.inputs.max_tdp_level.expect("captured");
            decision.inputs.max_tdp_level = Some(9 - level);
        });
        let found = mismatched(&judge(levels));
        assert!(found.contains("EPT104"), "{cell:?}: {found:?}");

        let at_odds = with_last_decision(cell, |decision| match cell.cpu {
            "vmx" | "vmx5" => decision.inputs.enable_ept = Some(false),
            _ => decision.inputs.npt_enabled = Some(false),
        });
        assert_eq!(mismatched(&judge(at_odds)), BTreeSet::from(["EPT105"]), "{cell:?}");
    }
}

#[test]
fn ept_on_hardware_that_may_not_is_ept105() {
    for bit in [6, 14, 26] {
        for cell in Cell::all().filter(|cell| cell.cpu.starts_with("vmx")) {
            let mut events = with_facts(cell, |facts| {
                let without = |capability: u64| capability & !(1 << bit);
                facts.hardware.ept_vpid_cap = facts.hardware.ept_vpid_cap.map(without);
                facts.kvm.vmx_capability_ept =
                    facts.kvm.vmx_capability_ept.map(|copy| copy & !(1 << bit));
            });
            // With EPT off there would be no EPTP to look at, and nothing to show an L1.
            events.retain(|event| {
                matches!(event.kind, EventKind::Facts(_) | EventKind::ConfigureMmu(_))
            });
            for event in &mut events {
                if let EventKind::Facts(facts) = &mut event.kind {
                    facts.kvm.nested_ept_vpid_cap = Fact::default();
                }
            }
            assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT105"]), "{cell:?}");
        }
    }
}

#[test]
fn a_capability_that_is_not_the_msrs_is_ept106() {
    for cell in Cell::all().filter(|cell| cell.cpu.starts_with("vmx")) {
        let events = with_facts(cell, |facts| {
            facts.kvm.vmx_capability_ept = facts.kvm.vmx_capability_ept.map(|copy| copy ^ 1 << 21);
        });
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT106"]), "{cell:?}");
    }
}

#[test]
fn another_huge_page_level_is_ept107() {
    for cell in Cell::all().filter(|cell| cell.cpu.starts_with("vmx")) {
        let mut events = corpus(cell);
        for event in &mut events {
            if let EventKind::ConfigureMmu(args) = &mut event.kind {
                args.huge_page_level = Some(2);
            }
        }
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT107"]), "{cell:?}");
    }
}

#[test]
fn with_ept_off_no_huge_page_level_is_a_mismatch() {
    // Before 5.17 kvm_intel hands over 0 then, and the capability's level after.
    for level in [0, 1, 3] {
        for cell in Cell::all().filter(|cell| cell.cpu.starts_with("vmx")) {
            let mut events = corpus(cell);
            events.retain(|event| !matches!(event.kind, EventKind::Decision(_)));
            for event in &mut events {
                if let EventKind::ConfigureMmu(args) = &mut event.kind {
                    args.enable_tdp = false;
                    args.huge_page_level = Some(level);
                }
            }
            assert_eq!(mismatched(&judge(events)), BTreeSet::new(), "{cell:?}");
        }
    }
}

#[test]
fn a_root_that_is_not_direct_is_ept110() {
    for cell in Cell::all() {
        let events = with_last_decision(cell, |decision| decision.after.direct = Some(false));
        assert_eq!(mismatched(&judge(events)), BTreeSet::from(["EPT110"]), "{cell:?}");
    }
}

#[test]
fn without_its_facts_a_decision_is_undetermined_and_not_guessed() {
    for cell in Cell::all() {
        let events = with_last_decision(cell, |decision| {
            decision.maxphyaddr = None;
            decision.cpuid = None;
        });
        let judged = judge(events);
        assert_eq!(mismatched(&judged), BTreeSet::new(), "{cell:?}");
        let (last, _) = decisions(&judged).last().expect("a decision");
        assert_eq!(last.verdict(), Verdict::Undetermined, "{cell:?}");
    }
}

#[test]
fn an_unknown_vendor_module_is_undetermined() {
    for cell in Cell::all() {
        let events = with_facts(cell, |facts| {
            facts.vendor = Vendor::Other("kvm_other".to_owned());
        });
        let judged = judge(events);
        assert_eq!(mismatched(&judged), BTreeSet::new(), "{cell:?}");
        for (judged, _) in decisions(&judged) {
            assert_eq!(judged.verdict(), Verdict::Undetermined, "{cell:?}");
        }
    }
}
