//! What a CI system does with a job, as far as these need it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Stands for `cargo xtask`: notes how it is called, writes what the lab would bring out, and exits
/// as it is told.
const STUB: &str = r#"#!/bin/sh
echo "$*" > "$STUB_DIR/called"
while [ "$1" != --out ]; do shift; done
if [ -z "$STUB_QUIET" ]; then
    echo '<testsuites/>' > "$2/junit.xml"
    echo '::error title=stub::annotated' > "$2/annotations.txt"
    echo '## stub' > "$2/summary.md"
fi
exit "$STUB_CODE"
"#;

/// A job in a directory of its own.
pub struct Job {
    dir: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
}

/// What came of it.
pub struct Done {
    pub code: Option<i32>,
    pub said: String,
    /// What went to GITHUB_OUTPUT.
    pub outputs: BTreeMap<String, String>,
    /// What went to GITHUB_STEP_SUMMARY.
    pub summary: String,
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// A YAML file as JSON.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

pub fn action() -> Value {
    yaml(&fs::read_to_string(repository().join("action.yml")).expect("action.yml"))
}

pub fn gitlab() -> Value {
    yaml(&fs::read_to_string(repository().join(".ci/gitlab.yml")).expect(".ci/gitlab.yml"))
}

/// Whether a command can be run as root without asking anybody.
pub fn can_be_root() -> bool {
    Command::new("sh")
        .args(["-c", "[ \"$(id -u)\" = 0 ] || sudo -n true"])
        .status()
        .is_ok_and(|status| status.success())
}

impl Job {
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("ept-trace-ci-{name}-")).tempdir();
        let dir = dir.expect("a directory");
        let stub = dir.path().join("xtask");
        fs::write(&stub, STUB).expect("a script");
        fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).expect("its mode");
        let place = dir.path().display().to_string();
        let env = vec![
            ("EPT_TRACE_XTASK", stub.display().to_string()),
            ("STUB_DIR", place.clone()),
            ("STUB_CODE", "0".to_owned()),
            ("STUB_QUIET", String::new()),
            ("GITHUB_SERVER_URL", format!("file://{place}/server")),
            ("GITHUB_ACTION_REPOSITORY", "owner/repo".to_owned()),
        ];
        Self { dir, env }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The lab ends with this code.
    pub fn exits(self, code: i32) -> Self {
        self.with("STUB_CODE", code.to_string())
    }

    /// The lab brings nothing out.
    pub fn writes_nothing(self) -> Self {
        self.with("STUB_QUIET", "yes".to_owned())
    }

    /// With the product that is built beside these tests.
    pub fn with_product(self) -> Self {
        self.with("EPT_TRACE_BINARY", tests::product().display().to_string())
    }

    /// With the lab itself.
    #[cfg(feature = "lab")]
    pub fn with_lab(self) -> Self {
        let xtask = std::env::var("EPT_TRACE_XTASK").unwrap_or_else(|_| "cargo xtask".to_owned());
        self.with("EPT_TRACE_XTASK", xtask)
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value));
        self
    }

    /// How the lab was called.
    pub fn called(&self) -> String {
        let called = fs::read_to_string(self.dir().join("called")).expect("it was called");
        called.trim_end().to_owned()
    }

    /// Runs the steps of the action as GitHub does, with its defaults where `inputs` say nothing. What
    /// other actions do is left out.
    pub fn run_action(&self, inputs: &[(&str, &str)]) -> Done {
        let action = action();
        let value = |name: &str| {
            let given = inputs.iter().find(|(input, _)| *input == name);
            let default = || action["inputs"][name]["default"].as_str().expect(name);
            given.map_or_else(default, |(_, value)| value).to_owned()
        };
        let (output, summary) = (self.dir().join("output"), self.dir().join("step-summary"));
        let mut done = Done {
            code: Some(0),
            said: String::new(),
            outputs: BTreeMap::new(),
            summary: String::new(),
        };
        for step in action["runs"]["steps"].as_array().expect("steps") {
            let Some(run) = step["run"].as_str() else { continue };
            assert_eq!(step["shell"], "bash");
            for file in [&output, &summary] {
                fs::write(file, "").expect("a file");
            }
            let mut bash = self.bash(run);
            bash.env("GITHUB_ACTIONS", "true").env("GITHUB_ACTION_PATH", repository());
            bash.env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
            for (name, template) in step["env"].as_object().into_iter().flatten() {
                let template = template.as_str().expect("a string");
                let input =
                    template.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
                bash.env(name, value(input.expect(template)));
            }
            let ran = bash.output().expect("bash can be started");
            done.code = ran.status.code();
            done.said += &tests::text(&ran);
            let read = |file| fs::read_to_string(file).expect("a file");
            let lines = read(&output);
            let pairs = lines.lines().filter_map(|line| line.split_once('='));
            done.outputs.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            done.summary += &read(&summary);
        }
        done
    }

    /// Runs the job of the GitLab template, with the source from a repository that has the script
    /// alone.
    pub fn run_gitlab(&self) -> Done {
        let job = &gitlab()["ept-trace"];
        let source = self.dir().join("repository");
        fs::create_dir_all(source.join(".ci")).expect("a directory");
        fs::copy(repository().join(".ci/check.sh"), source.join(".ci/check.sh")).expect("a copy");
        let commit = "git init -q -b main . && git add . && \
                      git -c user.name=x -c user.email=x@localhost commit -q -m x";
        let made = Command::new("sh").args(["-c", commit]).current_dir(&source).status();
        assert!(made.expect("sh can be started").success());
        let lines = ["before_script", "script"].map(|part| job[part].as_array().expect("a script"));
        let lines = lines.into_iter().flatten().map(|line| line.as_str().expect("a line"));
        let script = lines.collect::<Vec<_>>().join("\n");
        let mut bash = self.bash(&script);
        let place = self.dir().display().to_string();
        for (name, value) in job["variables"].as_object().expect("variables") {
            bash.env(name, value.as_str().expect("a string").replace("$CI_PROJECT_DIR", &place));
        }
        bash.env("EPT_TRACE_REPOSITORY", format!("file://{}", source.display()));
        // Whatever this machine has.
        bash.env("EPT_TRACE_WHERE", "lab");
        let ran = bash.output().expect("bash can be started");
        let (outputs, summary) = (BTreeMap::new(), String::new());
        Done { code: ran.status.code(), said: tests::text(&ran), outputs, summary }
    }

    fn bash(&self, script: &str) -> Command {
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
        bash.current_dir(self.dir());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GITHUB_")) {
            bash.env_remove(name);
        }
        bash.envs(self.env.iter().map(|(name, value)| (name, value)));
        bash
    }
}

/// All reports are in `results`, and say that it was at this place.
pub fn assert_reports(results: &Path, place: &str) {
    let read = |file: &str| {
        fs::read_to_string(results.join(file)).unwrap_or_else(|err| panic!("{file}: {err}"))
    };
    for file in [
        "junit.xml",
        "results.sarif",
        "results.tap",
        "results.jsonl",
        "report.html",
        "annotations.txt",
    ] {
        assert!(read(file).contains(place), "{file}");
    }
    let suites = junit_parser::from_reader(read("junit.xml").as_bytes()).expect("JUnit");
    assert_eq!(suites.suites[0].name, place);
    let class = "ept-trace.check.decision";
    assert!(suites.suites[0].cases.iter().any(|case| case.classname.as_deref() == Some(class)));
    let sarif: Value = serde_json::from_str(&read("results.sarif")).expect("JSON");
    assert_eq!(sarif["runs"][0]["properties"]["run"]["place"], place);
}
