//! What is installed: completions, manual pages, and the service.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::{product, text};

const SERVICE: &str = include_str!("../../xtask/package/ept-trace.service");

fn ept_trace(arguments: &[&str]) -> Output {
    Command::new(product()).args(arguments).output().expect("ept-trace can be started")
}

/// The verbs that `--help` shows.
fn verbs() -> Vec<String> {
    let help = text(&ept_trace(&["--help"]));
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next());
    let lines = commands.expect("a list of commands").lines();
    let verbs: Vec<_> = lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    assert!(verbs.len() >= 10, "{help}");
    verbs
}

/// The value of a setting of the service, which it has once.
fn setting(name: &str) -> &'static str {
    let mut values = SERVICE.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(values.next(), None, "{name}");
    value
}

#[test]
fn completions_know_every_verb_and_are_good_shell() {
    let dir = tempfile::tempdir().expect("room");
    for shell in ["bash", "zsh", "fish"] {
        let made = ept_trace(&["completions", shell]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made));
        for verb in verbs() {
            assert!(text(&made).contains(&verb), "{shell}: {verb}");
        }
        let file = dir.path().join(shell);
        std::fs::write(&file, made.stdout).expect("room");
        // Where the shell is not installed, nobody can ask it.
        let Ok(read) = Command::new(shell).arg("-n").arg(&file).output() else { continue };
        assert!(read.status.success(), "{shell}: {}", text(&read));
    }
    assert_eq!(ept_trace(&["completions", "no-shell"]).status.code(), Some(2));
}

#[test]
fn every_verb_has_a_manual_page_with_its_options() {
    let dir = tempfile::tempdir().expect("room");
    let dir = dir.path().join("man");
    let made = ept_trace(&["man", dir.to_str().expect("a plain path")]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let mut names = vec!["ept-trace".to_owned()];
    names.extend(verbs().iter().map(|verb| format!("ept-trace-{verb}")));
    let mut pages: Vec<_> = std::fs::read_dir(&dir)
        .expect("made")
        .map(|page| page.expect("a page").file_name().into_string().expect("a plain name"))
        .collect();
    pages.sort();
    let mut expected: Vec<_> = names.iter().map(|name| format!("{name}.1")).collect();
    expected.sort();
    assert_eq!(pages, expected);
    let watch = std::fs::read_to_string(dir.join("ept-trace-watch.1")).expect("made");
    assert!(watch.contains(r"\-\-mismatches"), "{watch}");
    // A file is in the way.
    let refused = ept_trace(&["man", "/dev/null"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("/dev/null"), "{}", text(&refused));
}

#[test]
fn the_service_is_valid_and_closed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().expect("room");
    let unit = dir.path().join("ept-trace.service");
    // Where it is installed there is no telling yet, and its manual is not installed here.
    let product = product();
    let here = SERVICE
        .replace("/usr/bin/ept-trace", product.to_str().expect("a plain path"))
        .replace("Documentation=", "#");
    std::fs::write(&unit, here).expect("room");
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&unit).output().expect("it was there")
    };
    let verified = analyze(&["verify"]);
    let about_it: Vec<_> = text(&verified)
        .lines()
        .filter(|line| line.contains("ept-trace"))
        .map(str::to_owned)
        .collect();
    assert!(verified.status.success() && about_it.is_empty(), "{about_it:?}");
    // 2.5 of 10; a service without any of this has 9.6.
    let secure = analyze(&["security", "--offline=true", "--threshold=30"]);
    assert!(secure.status.success(), "{}", text(&secure));
}

#[test]
fn the_command_of_the_service_is_one_that_this_program_takes() {
    let words: Vec<_> = setting("ExecStart").split(' ').collect();
    assert_eq!(words[0], "/usr/bin/ept-trace");
    let output = as_nobody(&product(), &words[1..]);
    // It cannot run without root: 4, and 2 if it were not understood.
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

fn as_nobody(program: &Path, arguments: &[&str]) -> Output {
    // Where any user can reach it.
    let dir = tempfile::tempdir().expect("room");
    let copy: PathBuf = dir.path().join("ept-trace");
    std::fs::copy(program, &copy).expect("a copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("its mode");
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
        command
    } else {
        Command::new(&copy)
    };
    command.args(arguments).output().expect("it can be started")
}

#[cfg(feature = "lab")]
mod lab {
    use tests::Cell;
    use tests::lab::{json_lines, lab_with_programs};

    use super::setting;

    /// The service's command with its very capabilities watches; with one less it does not, or says
    /// what it does not know.
    #[test]
    fn the_capabilities_of_the_service_are_enough_and_each_is_needed() {
        let capabilities: Vec<_> = setting("CapabilityBoundingSet")
            .split(' ')
            .map(|name| name.strip_prefix("CAP_").expect("a capability").to_lowercase())
            .collect();
        assert_eq!(setting("NoNewPrivileges"), "yes");
        let script = format!(
            "
            with() {{ caps=$1; shift; /add/run setpriv --bounding-set -all$caps --no-new-privs \"$@\"; }}
            all=$(for cap in {capabilities}; do printf ,+$cap; done)
            mkdir -p /usr/bin; ln -s /bin/ept-trace /usr/bin
            /add/run setpriv --bounding-set -all$all --no-new-privs {command} \
                > /out/watch.txt 2>&1 & watcher=$!
            # Attached, it keeps CAP_BPF, CAP_PERFMON and, on such a kernel, CAP_SYS_ADMIN.
            while kill -0 $watcher && ! grep -q CapEff:.*0c000200000 /proc/$watcher/status; do
                sleep 0.2
            done
            ept-trace check --quiet --scenario decision > /dev/null 2>&1
            kill -TERM $watcher; wait $watcher; echo watched: $?
            with $all ept-trace doctor -j > /out/all.json; echo all: $?
            for cap in {capabilities}; do
                less=$(echo $all | sed s/,+$cap//)
                with $less ept-trace watch --dry-run > /dev/null 2>&1; echo without $cap: $?
                with $less ept-trace doctor -j > /out/$cap.json 2> /dev/null
            done
            true
            ",
            capabilities = capabilities.join(" "),
            command = setting("ExecStart"),
        );
        for kernel in ["6.12", "5.10"] {
            let run =
                lab_with_programs(&["setpriv"], "service", Cell { cpu: "svm", kernel }, &script);
            assert_eq!(run.code, Some(0), "{kernel}: {}", run.output);
            let told = |line: &str| assert!(run.output.contains(line), "{kernel}: {}", run.output);
            told("watched: 0\n");
            told("all: 0\n");
            // It stands for the first two, and is asked for by Debian's kernels.
            told("without sys_admin: 4\n");
            let watched = std::fs::read_to_string(run.out.join("watch.txt")).expect("written");
            // Of what is right the kernel side hands on the walks that exit to userspace.
            let words: Vec<_> = watched.split_whitespace().collect();
            let walks = words.windows(2).find(|pair| pair[1] == "walks:");
            let walks = walks.and_then(|pair| pair[0].parse::<u64>().ok());
            assert!(walks > Some(10), "{kernel}: {watched}");
            assert!(watched.contains("0 mismatches, 0 undetermined"), "{kernel}: {watched}");

            let tdp_enabled = |file: &str| {
                json_lines(&run.out.join(file))[0]["facts"]["kvm"]["tdp_enabled"].clone()
            };
            assert_eq!(tdp_enabled("all.json")["known"]["value"], true, "{kernel}");
            for less in ["syslog.json", "sys_rawio.json"] {
                assert!(tdp_enabled(less)["unknown"]["why"].is_string(), "{kernel} {less}");
            }
        }
    }
}
