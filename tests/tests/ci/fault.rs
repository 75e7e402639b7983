//! A fault in a kernel of the lab, as CI meets it: it fails the run and is recorded; known, it fails
//! nothing; and when it is gone, that is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tests::lab::{json_lines, xtask};
use tests::{product, text};

/// EPT101's fault, which no guest minds: KVM takes 37 bits for a guest that says nothing.
const SCRIPT: &str = r#"
    check() {
        name=$1; shift
        ept-trace check --seed 7 --scenario decision --vcpus 1 --keep "/out/$name" "$@" \
            --report json="/out/$name/all.jsonl" --report ktap="/out/$name/ktap" \
            --report sarif="/out/$name/sarif" --report junit="/out/$name/junit"
        echo "$name: $?"
    }
    mkdir /out/fault /out/known /out/gone
    poke cpuid_query_maxphyaddr 152 24000000 25000000
    check fault
    check known --baseline /add/known.toml
    poke cpuid_query_maxphyaddr 152 25000000 24000000
    check gone --baseline /add/known.toml
"#;

const BASELINE: &str = "[[known]]\nrule = \"EPT101\"\nreason = \"a patch of ours\"\n\
                        scenario = \"decision\"\nkernel = \"6.12\"\ntext = \"37\"\n";

fn analyze(recording: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(product());
    command.arg("analyze").arg(recording).args(options);
    command.output().expect("it can be started")
}

/// The recordings that a run left.
fn recordings(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.map(|entry| entry.path().join("recording.ept")).filter(|path| path.exists()).collect()
}

#[test]
fn a_fault_fails_the_run_unless_it_is_known_and_is_missed_when_it_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (out, known) = (dir.path().join("out"), dir.path().join("known.toml"));
    fs::write(&known, BASELINE).expect("a baseline");
    let ran = xtask()
        .args(["lab", "--pokes", "--cpu", "svm", "--kernel", "6.12", "--add"])
        .arg(&known)
        .arg("--out")
        .arg(&out)
        .args(["--", "sh", "-c", SCRIPT])
        .output()
        .expect("xtask can be started");
    let said = text(&ran);
    for ended in ["fault: 1", "known: 0", "gone: 0"] {
        assert!(said.lines().any(|line| line == ended), "{ended}: {said}");
    }
    let repeat = "repeat it with: ept-trace check --seed 7 --scenario decision --vcpus 1";
    assert!(said.contains(repeat), "{said}");

    // What failed is recorded, and the recording says the same.
    let [recording] = &*recordings(&out.join("fault")) else { panic!("one recording: {said}") };
    let again = analyze(recording, &[]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("EPT101"), "{}", text(&again));
    // Of which scenario it is no recording tells; without that it is known there too.
    let anywhere = dir.path().join("anywhere.toml");
    fs::write(&anywhere, BASELINE.replace("scenario = \"decision\"\n", "")).expect("a baseline");
    let anywhere = anywhere.to_str().expect("a path of ours");
    assert_eq!(analyze(recording, &["--baseline", anywhere]).status.code(), Some(0));
    assert!(recordings(&out.join("known")).is_empty() && recordings(&out.join("gone")).is_empty());

    let findings = |run: &str| {
        let lines = json_lines(&out.join(run).join("all.jsonl"));
        lines.into_iter().filter(|line| line["type"] == "finding").collect::<Vec<_>>()
    };
    for (run, reason) in [("fault", Value::Null), ("known", "a patch of ours".into())] {
        let findings = findings(run);
        assert!(!findings.is_empty());
        for finding in findings {
            assert_eq!((&finding["rule"], &finding["known"]), (&"EPT101".into(), &reason));
            assert_eq!(finding["scenario"], "decision", "{finding}");
        }
    }
    assert_eq!(findings("gone"), Vec::<Value>::new());

    let read = |run: &str, file: &str| fs::read_to_string(out.join(run).join(file)).expect(file);
    let point = |run: &str| {
        let ktap = read(run, "ktap");
        let line = ktap.lines().find(|line| line.contains(" - EPT101 ")).expect("a point");
        line.trim_start_matches(|c: char| c != 'o' && c != 'n').to_owned()
    };
    assert!(point("fault").starts_with("not ok "));
    assert!(point("known").ends_with("# XFAIL known: a patch of ours"));
    assert!(point("gone").starts_with("ok ") && !point("gone").contains('#'));
    assert!(read("fault", "junit").contains("<failure type=\"mismatch\""));
    assert!(read("known", "sarif").contains("\"justification\": \"a patch of ours\""));
    assert!(said.contains("In the baseline, and not found\n  line 1: EPT101"), "{said}");
}
