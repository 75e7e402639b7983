//! `schema` against what is written, and against what docs/json.md says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jsonschema::Validator;
use serde_json::Value;
use tests::product;

/// What no file of the corpus has.
const MADE: &str = concat!(
    r#"{"time_ns":1,"event":"fault_loop","vm":1,"pid":2,"vcpu":0,"gpa":4096,"error_code":4,"#,
    r#""answer":1,"count":512,"for_ns":9,"mmu_level":5}"#,
    "\n"
);

fn output(arguments: &[&str], files: &[PathBuf]) -> Vec<u8> {
    let run = Command::new(product()).args(arguments).args(files).output();
    run.expect("ept-trace can be started").stdout
}

fn schema(of: &str) -> Value {
    serde_json::from_slice(&output(&["schema", of], &[])).expect("a schema is JSON")
}

fn validator(schema: &Value) -> Validator {
    jsonschema::meta::validate(schema).expect("a schema is as its own schema says");
    jsonschema::validator_for(schema).expect("a schema")
}

/// One file of each kind and kernel that `analyze` reads, and all that is wrong in the corpus.
fn corpus() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files = Vec::new();
    for dir in ["", "messages", "logs/lost-svm-6.12", "logs/fault-loop-svm-6.12", "text/6.1-svm"] {
        let entries = fs::read_dir(corpus.join(dir)).expect("the corpus is there");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|file| file.is_file());
    files.sort();
    assert!(files.len() > 20, "{}", files.len());
    files
}

/// The lines of each file of the corpus in a format, which must all be as the schema says; how many
/// of each type there are.
fn count_valid(format: &str, schema: &Value, tag: &str) -> BTreeMap<String, u64> {
    let validator = validator(schema);
    let mut types = BTreeMap::new();
    let made = tempfile::NamedTempFile::new().expect("room");
    fs::write(&made, MADE).expect("room");
    for file in corpus().into_iter().chain([made.path().to_owned()]) {
        let out = output(&["analyze", "--format", format], std::slice::from_ref(&file));
        add_valid(&validator, &out, tag, &mut types);
    }
    types
}

/// Lines, which must be as the schema says, are counted by their types.
fn add_valid(validator: &Validator, out: &[u8], tag: &str, types: &mut BTreeMap<String, u64>) {
    for line in std::str::from_utf8(out).expect("UTF-8").lines() {
        let value: Value = serde_json::from_str(line).expect("a line is JSON");
        // Which of many alternatives is meant is told by the type, so one error says enough.
        assert!(validator.is_valid(&value), "{line}");
        *types.entry(value[tag].as_str().expect("a type").to_owned()).or_default() += 1;
    }
}

/// The alternatives of a schema by their type.
fn variants<'a>(schema: &'a Value, tag: &str) -> BTreeMap<&'a str, &'a Value> {
    let variants = schema["oneOf"].as_array().expect("alternatives");
    let of_type = |variant: &'a Value| {
        let name = variant["properties"][tag]["const"].as_str().expect("a constant type");
        (name, variant)
    };
    variants.iter().map(of_type).collect()
}

/// The members that an alternative has, those behind a reference too.
fn members<'a>(schema: &'a Value, variant: &'a Value) -> BTreeSet<&'a str> {
    let own = variant["properties"].as_object().into_iter().flat_map(|members| members.keys());
    let referred = variant["$ref"].as_str().and_then(|to| schema.pointer(to.strip_prefix('#')?));
    let referred = referred.map(|variant| members(schema, variant)).unwrap_or_default();
    own.map(String::as_str).chain(referred).collect()
}

#[test]
fn every_json_line_of_the_corpus_is_as_the_schema_says() {
    let schema = schema("lines");
    let mut seen = count_valid("json", &schema, "type");
    // Wherever it is, and be it only to say that it cannot run: what came of its scenarios.
    let keep = tempfile::tempdir().expect("room");
    let keep = keep.path().to_str().expect("UTF-8");
    let out = output(&["check", "-j", "--scenario", "readonly", "--keep", keep], &[]);
    add_valid(&validator(&schema), &out, "type", &mut seen);
    let known: BTreeSet<_> = variants(&schema, "type").into_keys().collect();
    let seen: BTreeSet<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(seen, known);
}

#[test]
fn every_observation_of_the_corpus_is_as_the_schema_says() {
    let schema = schema("observations");
    let seen = count_valid("observations", &schema, "event");
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn a_line_that_is_wrong_is_found() {
    let schema = schema("lines");
    let validator = validator(&schema);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/vmx5-6.12.jsonl");
    let out = output(&["analyze", "-j"], &[file]);
    let mut tried = BTreeSet::new();
    for line in String::from_utf8(out).expect("UTF-8").lines() {
        let right: Value = serde_json::from_str(line).expect("a line is JSON");
        let kind = right["type"].as_str().expect("a type").to_owned();
        if !tried.insert(kind.clone()) {
            continue;
        }
        assert!(validator.is_valid(&right), "{line}");
        for (member, was) in right.as_object().expect("an object") {
            let mut wrong = right.clone();
            // No member is ever a list of one number.
            wrong[member] = serde_json::json!([1]);
            assert!(!validator.is_valid(&wrong), "{kind}: {member} as [1]");
            if !was.is_null() && !is_optional(&schema, &kind, member) {
                let mut wrong = right.clone();
                wrong.as_object_mut().expect("an object").remove(member);
                assert!(!validator.is_valid(&wrong), "{kind} without {member}");
            }
        }
    }
    assert!(tried.len() >= 6, "{tried:?}");
    for wrong in
        [r#"{"type":"no such type"}"#, "{}", "[]", r#"{"type":"gap","time_ns":-1,"reason":""}"#]
    {
        let wrong = serde_json::from_str(wrong).expect("JSON");
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

/// Whether lines of a type may lack a member.
fn is_optional(schema: &Value, kind: &str, member: &str) -> bool {
    let variant = variants(schema, "type")[kind];
    let referred = variant["$ref"].as_str().and_then(|to| schema.pointer(to.strip_prefix('#')?));
    let required = [Some(variant), referred].into_iter().flatten();
    let mut required = required.filter_map(|variant| variant["required"].as_array()).flatten();
    !required.any(|required| required == member)
}

#[test]
fn the_docs_name_every_type_with_its_members() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let docs = fs::read_to_string(docs).expect("docs/json.md");
    let schema = schema("lines");
    for (kind, variant) in variants(&schema, "type") {
        let name = format!("`{kind}`");
        let row = docs.lines().find(|line| {
            let head = line.strip_prefix("| ").and_then(|line| line.split('|').next());
            head.is_some_and(|head| head.contains(&name))
        });
        let row = row.unwrap_or_else(|| panic!("docs/json.md has no row for {kind}"));
        for member in members(&schema, variant) {
            let told = member == "type" || row.contains(&format!("`{member}`"));
            assert!(told, "docs/json.md does not tell of `{member}` of {kind}");
        }
    }
}
