//! The product on this very machine, whatever it offers: it runs, or it says why not.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tests::{product, text};

const CLEAN: Option<i32> = Some(0);
const INCOMPLETE: Option<i32> = Some(3);
const CANNOT_RUN: Option<i32> = Some(4);

fn ept_trace(arguments: &[&str]) -> Output {
    Command::new(product()).args(arguments).output().expect("ept-trace can be started")
}

fn lines(output: &Output) -> Vec<Value> {
    let out = String::from_utf8_lossy(&output.stdout);
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}")))
        .collect()
}

/// Whether this user may watch, and guests can be driven.
fn can_check() -> bool {
    let doctor = ept_trace(&["doctor"]);
    let code = doctor.status.code();
    assert!([CLEAN, CANNOT_RUN].contains(&code), "{}", text(&doctor));
    let can = code == CLEAN && File::open("/dev/kvm").is_ok();
    if !can {
        eprintln!("skipped: KVM cannot be watched here");
    }
    can
}

/// Whether this machine's vendor module is one that can be judged.
fn vendor_is_known() -> bool {
    let doctor = &lines(&ept_trace(&["doctor", "-j"]))[0];
    matches!(doctor["facts"]["vendor"].as_str(), Some("vmx" | "svm"))
}

/// How `check` ends here when nothing is wrong: without a verdict on any guest, incomplete.
fn good_check() -> Option<i32> {
    if vendor_is_known() { CLEAN } else { INCOMPLETE }
}

#[test]
fn watch_sees_the_guests_of_check_and_ends_by_itself() {
    let product = product();
    let check = product.to_str().expect("a plain path");
    let watch = ["watch", "-j", "--duration", "60", "--", check, "check", "--quiet"];
    let output = ept_trace(&watch);
    if !can_check() {
        assert_eq!(output.status.code(), CANNOT_RUN, "{}", text(&output));
        return;
    }
    assert_eq!(output.status.code(), good_check(), "as the command: {}", text(&output));
    // The guests' own run prints its summary as text, between the JSON lines of the watcher.
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> =
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_type = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["mismatches"], 0);
    assert_eq!(summary["lost"], 0);
    assert!(of_type("decision") > 0, "{out}");
    assert_eq!(summary["decisions"], of_type("decision"));
    for hook in summary["hooks"].as_array().expect("hooks") {
        let count = |name: &str| hook[name].as_u64().expect("a count");
        let sum = ["delivered", "filtered", "dropped", "missed"].map(count).iter().sum::<u64>();
        assert_eq!(count("fired"), sum, "{hook}");
        assert_eq!(count("dropped") + count("missed"), 0, "{hook}");
    }
}

#[test]
fn a_vendor_module_that_is_not_known_is_never_guessed_about() {
    if !can_check() {
        return;
    }
    let output = ept_trace(&["check", "-j", "--maxphyaddr", "36,52", "--vcpus", "1"]);
    assert_eq!(output.status.code(), good_check(), "{}", text(&output));
    let expected = if vendor_is_known() { "ok" } else { "undetermined" };
    let mut decisions = 0;
    for line in lines(&output).iter().filter(|line| line["type"] == "decision") {
        assert_eq!(line["verdict"], expected, "{line}");
        decisions += 1;
    }
    assert!(decisions > 0);
}

#[test]
fn doctor_shows_the_plan_that_watch_lists() {
    let doctor = ept_trace(&["doctor", "-j"]);
    if doctor.status.code() != CLEAN {
        assert_eq!(doctor.status.code(), CANNOT_RUN);
        return;
    }
    let plan: Vec<_> = lines(&doctor)[0]["hooks"].as_array().expect("hooks").clone();
    let dry_run = lines(&ept_trace(&["watch", "-j", "--dry-run"]));
    let attached: Vec<_> = dry_run.iter().filter(|line| line["type"] == "hook").collect();
    assert_eq!(plan.len(), attached.len());
    for (planned, shown) in plan.iter().zip(attached) {
        for key in ["hook", "attached", "how"] {
            assert_eq!(planned[key], shown[key]);
        }
    }
}

#[test]
fn without_root_it_cannot_run_and_says_so() {
    // Where any user can reach it.
    let dir = std::env::temp_dir().join(format!("ept-trace-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("its mode");
    let copy = dir.join("ept-trace");
    std::fs::copy(product(), &copy).expect("a copy");
    for verb in [&["watch"][..], &["doctor"]] {
        let output = as_nobody(&copy, verb);
        let said = text(&output);
        assert_eq!(output.status.code(), CANNOT_RUN, "{verb:?}: {said}");
        assert!(said.contains("sudo ept-trace"), "{said}");
    }
    // What needs no privilege runs all the same.
    assert_eq!(as_nobody(&copy, &["explain", "EPT103"]).status.code(), CLEAN);
    std::fs::remove_dir_all(&dir).expect("removed");
}

fn as_nobody(program: &Path, arguments: &[&str]) -> Output {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !is_root {
        return Command::new(program).args(arguments).output().expect("it can be started");
    }
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(nobody).arg(program).args(arguments);
    command.output().expect("setpriv of util-linux")
}

#[test]
fn without_the_right_to_mount_an_unmounted_tracefs_is_named() {
    let mounted = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    if !can_check() || mounted.iter().any(|path| Path::new(path).exists()) {
        return;
    }
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"])
        .arg(product())
        .arg("watch")
        .output()
        .expect("setpriv of util-linux");
    let said = text(&output);
    assert_eq!(output.status.code(), CANNOT_RUN, "{said}");
    assert!(said.contains("mount -t tracefs"), "{said}");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let product = product();
    let check = product.to_str().expect("a plain path");
    let mut runs = vec![(vec!["explain", "EPT103"], CLEAN)];
    if can_check() {
        // The verdict stands, whoever reads it: check goes on to its end, watch has none left.
        runs.push((vec!["check", "-j"], good_check()));
        runs.push((vec!["watch", "--", check, "check", "--quiet"], CLEAN));
    }
    for (arguments, code) in runs {
        let mut child = Command::new(&product)
            .args(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ept-trace can be started");
        let mut reader = BufReader::with_capacity(1, child.stdout.take().expect("piped"));
        if arguments[0] != "explain" {
            // One line, and the rest goes nowhere; explain has printed all by then.
            reader.read_line(&mut String::new()).expect("read");
        }
        drop(reader);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), code, "{arguments:?}: {}", text(&output));
        assert!(!text(&output).contains("panicked"), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn a_truncated_ebpf_object_is_an_error_that_names_the_file() {
    if !can_check() {
        return;
    }
    let path = std::env::temp_dir().join(format!("ept-trace-object-{}", std::process::id()));
    let whole = ept_trace(&["programs", "--write", path.to_str().expect("a plain path")]);
    assert_eq!(whole.status.code(), CLEAN, "{}", text(&whole));
    let object = std::fs::read(&path).expect("the object");
    for length in [0, 10, 64, object.len() / 2, object.len() - 1] {
        std::fs::write(&path, &object[..length]).expect("written");
        let argument = path.to_str().expect("a plain path");
        let output = ept_trace(&["watch", "--dry-run", "--ebpf-object", argument]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{length}: {said}");
        assert!(said.contains(argument), "{length}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn an_unknown_rule_and_a_bad_file_have_their_exit_codes() {
    assert_eq!(ept_trace(&["explain", "EPT999"]).status.code(), Some(2));
    assert_eq!(ept_trace(&["explain", "--maxphyaddr", "x"]).status.code(), Some(2));
    assert_eq!(ept_trace(&["analyze", "/nonexistent"]).status.code(), Some(5));
    assert_eq!(ept_trace(&["analyze", "/proc/version"]).status.code(), Some(5));
}

#[test]
fn explain_tells_the_four_decisions_apart() {
    let level = |arguments: &[&str]| {
        let output = ept_trace(&[&["explain"][..], arguments].concat());
        assert_eq!(output.status.code(), CLEAN, "{}", text(&output));
        let said = text(&output);
        let line = said.lines().find(|line| line.starts_with("root level")).expect("a level");
        line.split([' ', ':']).nth(2).expect("a number").parse::<u8>().expect("a number")
    };
    let (ept4, ept5) = ("0x6734141", "0x67341c1");
    assert_eq!(level(&["--maxphyaddr", "48", "--ept-cap", ept5]), 4);
    assert_eq!(level(&["--maxphyaddr", "49", "--ept-cap", ept5]), 5);
    assert_eq!(level(&["--maxphyaddr", "52", "--ept-cap", ept4]), 4);
    assert_eq!(level(&["--maxphyaddr", "36", "--npt", "5"]), 5);
}
