//! The loop of those who change KVM: what the lab makes of a kernel of one's own, and what `git
//! bisect` makes of the lab.
#![cfg(feature = "lab")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::lab::xtask;

fn lab(kernel: &Path, options: &[&str]) -> (Option<i32>, String) {
    let mut command = xtask();
    command.args(["lab", "--cpu", "svm", "--kernel"]).arg(kernel).args(options);
    let output = command.output().expect("xtask can be started");
    (output.status.code(), tests::text(&output))
}

#[test]
fn what_is_no_kernel_is_told_before_anything_boots() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("vmlinux");
    fs::write(&file, b"\x7fELF").expect("a file");
    for (kernel, hint) in [
        (file.as_path(), "arch/x86/boot/bzImage"),
        (Path::new("6.13"), "of its own, the lab has 5.10, 6.1"),
    ] {
        let (code, said) = lab(kernel, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(hint), "{said}");
    }
    // Else the verdict would be about Debian's own.
    let nothing = dir.path().to_str().expect("UTF-8");
    for (modules, hint) in
        [("/nowhere", "neither a directory nor a package"), (nothing, "no module of KVM under")]
    {
        let (code, said) = lab(Path::new("6.1"), &["--modules", modules]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn a_bug_that_is_put_back_is_found() {
    let output = xtask().args(["bugs", "nested-npt-root-level"]).output().expect("xtask");
    let said = tests::text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("EPT503 MISMATCH: guest_mmu has 4 levels, the host walks 5"), "{said}");
}

/// A history in which bisection meets a commit that does not build first of all.
#[test]
fn git_bisect_names_the_guilty_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("kvm");
    let laid_out = xtask().arg("kvm-source").arg(&tree).output().expect("xtask");
    assert!(laid_out.status.success(), "{}", tests::text(&laid_out));
    let git = |words: &[&str]| {
        let who = ["-c", "user.name=lab", "-c", "user.email=lab@localhost"];
        let mut git = Command::new("git");
        let output = git.current_dir(&tree).args(who).args(words).output().expect("git");
        assert!(output.status.success(), "git {words:?}: {}", tests::text(&output));
        tests::text(&output)
    };
    let svm = tree.join("arch/x86/kvm/svm/svm.c");
    let source = || fs::read_to_string(&svm).expect("svm.c");
    let commit = |message: &str, source: String| {
        fs::write(&svm, source).expect("svm.c");
        git(&["add", "arch/x86/kvm/mmu", "arch/x86/kvm/svm"]);
        git(&["commit", "--quiet", "-m", message]);
    };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bug = repository.join("xtask/lab/bugs/nested-npt-root-level.patch");

    git(&["init", "--quiet"]);
    commit("base", source());
    commit("remark", source() + "/* a remark */\n");
    commit("another remark", source() + "/* another remark */\n");
    let sound = source();
    commit("does not build", source() + "this does not build\n");
    commit("builds again", sound);
    git(&["apply", bug.to_str().expect("UTF-8")]);
    commit("guilty", source());
    commit("last remark", source() + "/* the last remark */\n");

    git(&["bisect", "start", "HEAD", "HEAD~6"]);
    let bisected = Command::new("git")
        .current_dir(&tree)
        .args(["bisect", "run"])
        .arg(repository.join("xtask/lab/bisect.sh"))
        .args(["--cpu", "svm", "--"])
        .args(["ept-trace", "check", "--scenario", "nested", "--patience", "5", "--quiet"])
        .envs([("BUILD", "make -j2"), ("KERNEL", "6.1"), ("MODULES", ".")])
        .output()
        .expect("git can be started");
    let said = tests::text(&bisected);
    assert!(bisected.status.success(), "{said}");
    assert_eq!(git(&["log", "-1", "--format=%s", "refs/bisect/bad"]), "guilty\n", "{said}");
    let first_bad = git(&["rev-parse", "refs/bisect/bad"]);
    assert!(said.contains(&format!("{} is the first bad commit", first_bad.trim())), "{said}");
    assert!(said.contains("EPT503"), "{said}");
    assert!(git(&["bisect", "log"]).contains("git bisect skip"), "{said}");
}
