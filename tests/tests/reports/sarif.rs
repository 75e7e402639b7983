//! SARIF 2.1.0, held against the standard's own schema.

use ept_trace::report::Format;
use ept_trace::rules::RULES;
use serde_json::Value;

use super::files::{File, checked, clean, faulty, hostile};
use super::{report, runs};

const SCHEMA: &str = include_str!("../../schemas/sarif-2.1.0.json");

fn read(files: &[File]) -> Value {
    let text = report(Format::Sarif, files);
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

#[test]
fn every_run_is_as_the_schema_says() {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for (name, files) in runs() {
        let log = read(&files);
        let wrong: Vec<_> =
            schema.iter_errors(&log).map(|err| format!("{}: {err}", err.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
    assert!(!schema.is_valid(&serde_json::json!({ "version": "2.1.0", "runs": [{}] })));
}

#[test]
fn a_finding_is_a_result_with_its_evidence() {
    let log = read(&faulty());
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let part = |part: &str| result[part].as_str().unwrap_or_default().to_owned();
            (part("ruleId"), part("kind"), part("level"), result["occurrenceCount"].as_u64())
        })
        .collect();
    let expected = [
        ("EPT202", "fail", "error", 1),
        ("EPT103", "fail", "error", 4),
        ("EPT103", "fail", "error", 4),
        ("EPT106", "open", "none", 1),
    ];
    let expected = expected.map(|(rule, kind, level, count)| {
        (rule.to_owned(), kind.to_owned(), level.to_owned(), Some(count))
    });
    assert_eq!(told, expected);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        let rule = &run["tool"]["driver"]["rules"][index];
        assert_eq!(rule["id"], result["ruleId"]);
        let artifact = &result["locations"][0]["physicalLocation"]["artifactLocation"];
        assert_eq!(artifact["uri"], "vmx5-6.12-faulty.jsonl");
    }
    let root_level = &results[1];
    let place = &root_level["locations"][0]["logicalLocations"][0]["fullyQualifiedName"];
    assert_eq!(place, "VM 8/vCPU 0");
    let evidence = &root_level["properties"]["evidence"][0]["evidence"][0];
    assert_eq!(evidence["what"], "root level");
    assert_eq!(evidence["value"], "4");
}

#[test]
fn a_run_in_which_something_was_lost_is_no_success() {
    let invocation = |files: &[File]| read(files)["runs"][0]["invocations"][0].clone();
    let faulty = invocation(&faulty());
    assert_eq!(faulty["executionSuccessful"], false);
    let texts = faulty["toolExecutionNotifications"].to_string();
    assert!(texts.contains("7 records of kvm_mmu_page_fault return are lost"), "{texts}");
    let clean = invocation(&clean());
    assert_eq!(clean["executionSuccessful"], true);
    assert_eq!(clean["toolExecutionNotifications"], serde_json::json!([]));
}

#[test]
fn all_rules_are_told_in_their_own_words() {
    let log = read(&clean());
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), RULES.len());
    for (told, rule) in rules.iter().zip(RULES) {
        assert_eq!(told["id"], rule.id);
        assert_eq!(told["help"]["text"], rule.explanation());
    }
}

#[test]
fn the_name_of_a_file_is_no_scheme_and_no_host() {
    let log = read(&hostile());
    let uri = log["runs"][0]["artifacts"][0]["location"]["uri"].as_str().unwrap().to_owned();
    assert!(uri.starts_with("a%3Ab/%22%27%3E%3Cscript%3E"), "{uri}");
    let mut files = clean();
    files[0].name = "//host/share/a b.jsonl".to_owned();
    let log = read(&files);
    assert_eq!(log["runs"][0]["artifacts"][0]["location"]["uri"], "/.//host/share/a%20b.jsonl");
}

#[test]
fn a_failed_case_is_a_result_and_a_known_finding_is_suppressed() {
    let log = read(&checked());
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let case = results.iter().find(|result| result["ruleId"] == "check/huge").unwrap();
    assert_eq!((&case["kind"], &case["level"]), (&"fail".into(), &"error".into()));
    let index = usize::try_from(case["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "check/huge");
    for result in results {
        let suppressions = result["suppressions"].as_array().unwrap();
        if result["ruleId"] == "EPT202" {
            assert_eq!(suppressions[0]["justification"], "our patch");
        } else {
            assert!(suppressions.is_empty(), "{result}");
        }
        // Services take no result without a file.
        let artifact = &result["locations"][0]["physicalLocation"]["artifactLocation"];
        assert_eq!(artifact["uri"], "ept-trace-check");
    }
    assert_eq!(run["properties"]["run"]["place"], "the lab (vmx5, emulated)");
    assert_eq!(run["properties"]["scenarios"][2]["cases"][2]["outcome"], "failed");
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
}
