//! `action.yml`, the GitLab template and their script, run as far as they run here: what they call in
//! the lab's place is a script that notes how it was called.

#[cfg(feature = "lab")]
mod fault;
mod runner;

use std::fs;
#[cfg(feature = "lab")]
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use runner::{Job, action, gitlab, repository, yaml};

#[test]
fn every_input_and_output_of_the_action_is_connected() {
    let action = action();
    let inputs = action["inputs"].as_object().expect("inputs");
    let text = fs::read_to_string(repository().join("action.yml")).expect("action.yml");
    for input in inputs.keys() {
        assert!(text.contains(&format!("${{{{ inputs.{input} }}}}")), "{input} is not used");
    }
    for used in text.split("inputs.").skip(1) {
        let name = used.split(' ').next().unwrap_or_default();
        assert!(inputs.contains_key(name), "there is no input {name}");
    }
    let outputs = action["outputs"].as_object().expect("outputs");
    let done = Job::new("outputs").run_action(&[("kernel", "6.12")]);
    let names: Vec<&String> = outputs.keys().collect();
    assert_eq!(names, done.outputs.keys().collect::<Vec<_>>());
    for (name, output) in outputs {
        assert_eq!(output["value"], format!("${{{{ steps.check.outputs.{name} }}}}"));
    }
}

#[test]
fn a_kernel_is_booted_in_the_lab_with_all_that_was_asked_for() {
    let job = Job::new("arguments");
    fs::write(job.dir().join("known.toml"), "").expect("a baseline");
    let done = job.run_action(&[
        ("kernel", "6.1"),
        ("cpu", "vmx"),
        ("scenario", "huge,mmio"),
        ("baseline", "known.toml"),
        ("args", "--seed 7  --intensity 2"),
    ]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    assert!(done.said.contains("not this machine (a kernel is given), but lab"), "{}", done.said);
    let results = job.dir().join("ept-trace-results");
    let baseline = job.dir().join("known.toml");
    let expected = format!(
        "lab --cpu vmx --kernel 6.1 --add {} --out {} -- env GITHUB_STEP_SUMMARY=/out/summary.md \
         ept-trace check --report junit=/out/junit.xml --report sarif=/out/results.sarif \
         --report tap=/out/results.tap --report json=/out/results.jsonl \
         --report html=/out/report.html --report github=/out/annotations.txt --color never \
         --keep /out --scenario huge,mmio --baseline /add/known.toml --seed 7 --intensity 2",
        baseline.display(),
        results.display()
    );
    assert_eq!(job.called(), expected);
    assert_eq!(done.outputs["where"], "lab");
    assert_eq!(done.outputs["junit"], results.join("junit.xml").display().to_string());
    assert!(done.said.lines().any(|line| line == "::error title=stub::annotated"), "{}", done.said);
    assert_eq!(done.summary, "## stub\n");
}

#[test]
fn a_file_is_a_kernel_of_ones_own() {
    let job = Job::new("kernel");
    fs::write(job.dir().join("bzImage"), "").expect("a kernel");
    job.run_action(&[("kernel", "bzImage"), ("modules", "modules")]);
    let image = job.dir().join("bzImage").display().to_string();
    let modules = job.dir().join("modules").display().to_string();
    let called = job.called();
    assert!(called.contains(&format!("--kernel {image} --modules {modules} ")), "{called}");
}

#[test]
fn the_exit_code_becomes_a_result_and_a_skip_is_no_failure() {
    for (code, result, ends) in [
        (0, "clean", 0),
        (1, "mismatch", 1),
        (2, "failure", 2),
        (3, "incomplete", 3),
        (4, "skipped", 0),
        (101, "failure", 101),
    ] {
        let done = Job::new("code").exits(code).run_action(&[("where", "lab")]);
        assert_eq!(done.outputs["result"], result, "{}", done.said);
        assert_eq!(done.outputs["exit-code"], code.to_string());
        assert_eq!(done.code, Some(ends), "{code}: {}", done.said);
    }
    let done = Job::new("code").exits(4).run_action(&[("where", "lab"), ("skipped", "fail")]);
    assert_eq!(done.code, Some(4));
}

#[test]
fn what_was_not_written_is_told_and_what_is_wrong_is_refused() {
    let done = Job::new("nothing").writes_nothing().exits(2).run_action(&[("where", "lab")]);
    assert!(done.said.contains("::error title=ept-trace::no report was written"), "{}", done.said);
    for (input, value) in [("where", "there"), ("baseline", "no-such-file")] {
        let done = Job::new("wrong").run_action(&[(input, value)]);
        assert_eq!(done.code, Some(2), "{}", done.said);
        assert!(done.said.contains(value), "{}", done.said);
    }
}

/// A release is a file of this machine here, for curl reads those too.
#[test]
fn a_release_is_used_only_with_its_checksum() {
    let job = Job::new("release");
    let release = job.dir().join("server/owner/repo/releases/download/v1.2");
    fs::create_dir_all(&release).expect("a directory");
    let binary = release.join("ept-trace-x86_64-linux");
    fs::write(&binary, "#!/bin/sh\necho \"released: $*\"\n").expect("a binary");
    let sum = "sha256sum ept-trace-x86_64-linux > ept-trace-x86_64-linux.sha256";
    let summed = Command::new("sh").args(["-c", sum]).current_dir(&release).status();
    assert!(summed.expect("sh can be started").success());
    if !runner::can_be_root() {
        eprintln!("skipped: there is no root here");
        return;
    }
    let inputs = [("where", "here"), ("version", "1.2")];
    let done = job.run_action(&inputs);
    assert_eq!(done.code, Some(0), "{}", done.said);
    assert!(done.said.contains("released: check --report junit="), "{}", done.said);
    fs::write(&binary, "#!/bin/sh\necho \"changed: $*\"\n").expect("a binary");
    let done = job.run_action(&inputs);
    assert_ne!(done.code, Some(0), "{}", done.said);
    assert!(!done.said.contains("changed: "), "{}", done.said);
}

/// The product itself on this machine's KVM, whatever that offers.
#[test]
fn on_this_machine_the_reports_are_there_whatever_comes_of_it() {
    if !runner::can_be_root() {
        eprintln!("skipped: there is no root here");
        return;
    }
    let job = Job::new("here").with_product();
    let done = job.run_action(&[("where", "here"), ("scenario", "decision,memory")]);
    let result = &done.outputs["result"];
    assert!(["clean", "incomplete", "skipped"].contains(&&**result), "{}", done.said);
    assert_eq!(done.code, Some(if result == "incomplete" { 3 } else { 0 }), "{}", done.said);
    runner::assert_reports(&job.dir().join("ept-trace-results"), "this machine");
    assert!(done.summary.starts_with("## "), "{}", done.summary);
}

#[test]
fn the_gitlab_job_fetches_the_source_and_runs_the_same_script() {
    let job = Job::new("gitlab").exits(4);
    let done = job.run_gitlab();
    assert_eq!(done.code, Some(4), "{}", done.said);
    let template = &gitlab()["ept-trace"];
    assert_eq!(template["allow_failure"]["exit_codes"], serde_json::json!([4]));
    for path in [&template["artifacts"]["paths"][0], &template["artifacts"]["reports"]["junit"]] {
        let path = job.dir().join(path.as_str().expect("a path"));
        assert!(path.exists(), "{}", path.display());
    }
    assert!(job.called().starts_with("lab --cpu vmx5 --kernel 6.12 "), "{}", job.called());
    assert!(job.dir().join(".ept-trace/source/.ci/check.sh").exists());
}

#[test]
fn the_examples_in_the_docs_are_of_this_action() {
    let docs = fs::read_to_string(repository().join("docs/ci.md")).expect("docs/ci.md");
    let inputs = action()["inputs"].clone();
    let mut used = 0;
    for block in docs.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let parsed = yaml(block);
        let jobs = parsed["jobs"].as_object().cloned().unwrap_or_default();
        let of_jobs = jobs.values().filter_map(|job| job["steps"].as_array().cloned()).flatten();
        let steps: Vec<Value> =
            of_jobs.chain(parsed.as_array().cloned().unwrap_or_default()).collect();
        for step in steps.iter().filter(|step| is_ours(step)) {
            used += 1;
            for (input, _) in step["with"].as_object().into_iter().flatten() {
                assert!(inputs.get(input).is_some(), "there is no input {input}: {block}");
            }
        }
    }
    assert!(used >= 3, "{used}");
}

fn is_ours(step: &Value) -> bool {
    step["uses"].as_str().is_some_and(|uses| uses.contains("/ept-trace@"))
}

#[test]
fn scripts_are_as_shellcheck_wants_them() {
    let scripts = [".ci/check.sh", "xtask/lab/named.sh"];
    let checked = Command::new("shellcheck").args(scripts).current_dir(repository()).output();
    match checked {
        Ok(checked) => assert!(checked.status.success(), "{}", tests::text(&checked)),
        Err(_) => eprintln!("skipped: there is no shellcheck here"),
    }
}

/// The lab itself, by the action.
#[cfg(feature = "lab")]
#[test]
fn in_the_lab_the_action_gives_a_verdict_and_says_that_it_was_the_lab() {
    let job = Job::new("lab").with_lab();
    let baseline = "[[known]]\nrule = \"EPT103\"\nreason = \"not there\"\n";
    fs::write(job.dir().join("known.toml"), baseline).expect("a baseline");
    let inputs = [
        ("cpu", "svm"),
        ("kernel", "6.12"),
        ("scenario", "decision,huge"),
        ("baseline", "known.toml"),
    ];
    let done = job.run_action(&inputs);
    assert_eq!(done.code, Some(0), "{}", done.said);
    assert_eq!(done.outputs["result"], "clean");
    runner::assert_reports(Path::new(&done.outputs["results"]), "the lab (svm, emulated)");
    assert!(
        done.said.contains("::notice title=ept-trace%3A known%2C and not found::"),
        "{}",
        done.said
    );
    assert!(done.summary.contains("the lab (svm, emulated)"), "{}", done.summary);
}
