//! JUnit, as the crate `junit-parser` reads it.

use ept_trace::report::Format;
use junit_parser::{TestCase, TestSuites, from_reader};

use super::files::{File, cannot_run, checked, clean, faulty};
use super::{report, runs};

fn read(files: &[File]) -> TestSuites {
    let text = report(Format::Junit, files);
    from_reader(text.as_bytes()).unwrap_or_else(|err| panic!("{err}: {text}"))
}

fn case<'a>(suites: &'a TestSuites, name: &str) -> &'a TestCase {
    let mut cases = suites.suites.iter().flat_map(|suite| &suite.cases);
    cases.find(|case| case.original_name == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn every_run_is_read_and_its_counts_add_up() {
    for (name, files) in runs() {
        let suites = read(&files);
        assert_eq!(suites.suites.len(), files.len(), "{name}");
        for suite in &suites.suites {
            let with = |is: fn(&TestCase) -> bool| {
                suite.cases.iter().filter(|case| is(case)).count() as u64
            };
            assert_eq!(suite.tests, suite.cases.len() as u64, "{name}");
            assert_eq!(suite.failures, with(|case| case.status.is_failure()), "{name}");
            assert_eq!(suite.errors, with(|case| case.status.is_error()), "{name}");
            assert_eq!(suite.skipped, with(|case| case.status.is_skipped()), "{name}");
        }
        assert_eq!(suites.failures, suites.suites.iter().map(|suite| suite.failures).sum::<u64>());
        assert_eq!(suites.errors, suites.suites.iter().map(|suite| suite.errors).sum::<u64>());
    }
}

#[test]
fn each_rule_is_a_case_that_fails_passes_or_is_skipped() {
    let suites = read(&faulty());
    assert_eq!((suites.failures, suites.errors), (2, 1));
    let failed = case(&suites, "EPT103 root-level");
    assert_eq!(failed.classname.as_deref(), Some("ept-trace.rules"));
    let failure = failed.status.failure_as_ref();
    assert_eq!(
        failure.message,
        "root level is 4, should be 5: max_tdp_level, at MAXPHYADDR 52 (8 findings in all)"
    );
    let evidence = "max_tdp_level = 5  (max_tdp_level, read at that moment)";
    assert!(failure.text.contains(evidence), "{}", failure.text);
    assert!(case(&suites, "EPT101 maxphyaddr").status.is_success());
    let skipped = |name| case(&suites, name).status.skipped_as_ref().message.clone();
    assert_eq!(skipped("EPT106 capability-read"), "undetermined: MSR 0x48c: no /dev/cpu/0/msr");
    assert_eq!(skipped("EPT401 spte-history"), "nothing to judge");
    let lost = case(&suites, "completeness").status.error_as_ref();
    assert_eq!(lost.message, "7 records lost, 1 gap, 1 place not read");

    let suites = read(&clean());
    assert_eq!((suites.failures, suites.errors), (0, 0));
    assert!(case(&suites, "completeness").status.is_success());
}

#[test]
fn each_case_of_a_scenario_is_a_case_with_its_time() {
    let suites = read(&checked());
    assert_eq!(suites.suites[0].name, "the lab (vmx5, emulated)");
    let failed = case(&suites, "split #1");
    assert_eq!(failed.classname.as_deref(), Some("ept-trace.check.huge"));
    assert!((failed.time - 1.5).abs() < 0.001, "{}", failed.time);
    let failure = failed.status.failure_as_ref();
    assert_eq!((&*failure.message, &*failure.failure_type), ("0x1, not 0x2", "failed"));
    assert!(failure.text.contains("--seed 7 --scenario huge"), "{}", failure.text);
    assert_eq!(case(&suites, "1 GiB").status.skipped_as_ref().message, "no page of 1 GiB");
    assert_eq!(case(&suites, "levels").status.error_as_ref().message, "no root level was judged");
    assert_eq!(
        case(&suites, "EPT202 eptp-level").status.skipped_as_ref().message,
        "known: our patch"
    );
    let nothing = read(&cannot_run());
    assert_eq!((nothing.failures, nothing.errors), (0, 0));
}
