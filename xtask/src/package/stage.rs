//! The tree of files that becomes the package.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Package;
use crate::command;

const CONTROL: &str = include_str!("../../package/control");
const COPYRIGHT: &str = include_str!("../../package/copyright");
const OVERRIDES: &str = include_str!("../../package/lintian-overrides");
const SERVICE: &str = include_str!("../../package/ept-trace.service");
/// The maintainer's scripts.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../../package/postinst")),
    ("postrm", include_str!("../../package/postrm")),
    ("prerm", include_str!("../../package/prerm")),
];
const CHANGES: &str = include_str!("../../../CHANGELOG.md");

/// Where a shell looks for the completions of a program.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/ept-trace"),
    ("zsh", "usr/share/zsh/vendor-completions/_ept-trace"),
    ("fish", "usr/share/fish/vendor_completions.d/ept-trace.fish"),
];
const DOC: &str = "usr/share/doc/ept-trace";

const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;

/// Writes the tree into a directory that is not there yet.
pub fn stage(package: &Package, root: &Path) -> Result<()> {
    let tree = Tree { root };
    let program = fs::read(&package.program).context("the program")?;
    tree.add("usr/bin/ept-trace", PROGRAM, &program)?;
    for (shell, path) in COMPLETIONS {
        let script = command::run(Command::new(&package.program).args(["completions", shell]))?;
        tree.add(path, FILE, &script)?;
    }
    tree.add_manual(package)?;
    tree.add("usr/lib/systemd/system/ept-trace.service", FILE, SERVICE.as_bytes())?;
    tree.add("usr/share/lintian/overrides/ept-trace", FILE, OVERRIDES.as_bytes())?;
    tree.add(&format!("{DOC}/copyright"), FILE, COPYRIGHT.as_bytes())?;
    tree.add_packed(&format!("{DOC}/changelog"), CHANGES.as_bytes())?;
    tree.add_packed(&format!("{DOC}/changelog.Debian"), debian_changes(package)?.as_bytes())?;

    let files = tree.files()?;
    tree.add("DEBIAN/md5sums", FILE, &sums(root, &files)?)?;
    let size: u64 = files.iter().map(|(_, size)| size.div_ceil(1024)).sum();
    let control =
        CONTROL.replace("@VERSION@", &package.version).replace("@SIZE@", &size.to_string());
    tree.add("DEBIAN/control", FILE, control.as_bytes())?;
    for (name, script) in SCRIPTS {
        tree.add(&format!("DEBIAN/{name}"), PROGRAM, script.as_bytes())?;
    }
    Ok(())
}

/// The package's own changes, of which there are none but those of the program.
fn debian_changes(package: &Package) -> Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["--utc", "--rfc-email", "--date"]);
    let date = command::run(date.arg(format!("@{}", package.epoch)))?;
    let date = String::from_utf8_lossy(&date);
    let maintainer = CONTROL.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("no maintainer in control")?;
    Ok(format!(
        "ept-trace ({}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer}  {date}",
        package.version
    ))
}

fn sums(root: &Path, files: &[(String, u64)]) -> Result<Vec<u8>> {
    command::run(Command::new("md5sum").args(files.iter().map(|file| &file.0)).current_dir(root))
}

/// A tree in the making. Its modes are those given, whatever this user's umask is.
struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn add(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let file = self.root.join(path);
        let write = || {
            for dir in Path::new(path).ancestors().skip(1).collect::<Vec<_>>().iter().rev() {
                let dir = self.root.join(dir);
                fs::create_dir_all(&dir)?;
                fs::set_permissions(&dir, Permissions::from_mode(PROGRAM))?;
            }
            fs::write(&file, content)?;
            fs::set_permissions(&file, Permissions::from_mode(mode))
        };
        write().with_context(|| file.display().to_string())
    }

    /// Adds a file packed, with neither name nor time in it.
    fn add_packed(&self, path: &str, content: &[u8]) -> Result<()> {
        let packed = command::filter(Command::new("gzip").args(["-9", "--no-name"]), content)?;
        self.add(&format!("{path}.gz"), FILE, &packed)
    }

    fn add_manual(&self, package: &Package) -> Result<()> {
        let made = self.root.with_extension("man");
        let _ = fs::remove_dir_all(&made);
        command::run(Command::new(&package.program).arg("man").arg(&made))?;
        let pages = fs::read_dir(&made).context("the manual pages")?;
        for page in pages {
            let page = page?;
            let name = page.file_name();
            let path = format!("usr/share/man/man1/{}", name.to_string_lossy());
            self.add_packed(&path, &fs::read(page.path())?)?;
        }
        Ok(())
    }

    /// All files so far by name, with their sizes.
    fn files(&self) -> Result<Vec<(String, u64)>> {
        let list = command::run(
            Command::new("find")
                .args(["usr", "-type", "f", "-printf", "%p %s\n"])
                .current_dir(self.root),
        )?;
        let list = String::from_utf8(list).context("names in UTF-8")?;
        let file = |line: &str| {
            let (path, size) = line.rsplit_once(' ')?;
            Some((path.to_owned(), size.parse().ok()?))
        };
        let mut files: Vec<_> = list.lines().filter_map(file).collect();
        files.sort();
        Ok(files)
    }
}
