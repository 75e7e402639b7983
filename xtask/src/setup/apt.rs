//! A private apt root: any Debian suite's archive, without a trace in this machine's own apt.
//!
//! The root has its own lists, status and cache, and this machine's sources with the suite's
//! name changed. All other settings stay this machine's (proxies, certificates), except its
//! hooks: some machines clear the *system's* package cache after every update, in the middle of
//! another apt's work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::sources::{Kind, Target};
use crate::command;

/// apt's own downloader, which checks the hash as it goes.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// A private apt root with one suite's package lists.
#[derive(Debug)]
pub struct Root {
    dir: PathBuf,
}

/// One line of `--print-uris`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// Where it is.
    pub address: String,
    /// The file's name.
    pub file: String,
    /// `METHOD:HEX`, where the archive's index has one.
    pub hash: Option<String>,
}

impl Root {
    /// Makes the root in the empty directory `dir` and fetches the lists of `suite`.
    pub fn new(dir: &Path, suite: &str, kind: Kind) -> Result<Self> {
        let root = Self { dir: dir.to_owned() };
        root.write(suite, kind)
            .with_context(|| format!("cannot make an apt root for {suite} in {}", dir.display()))?;
        command::run(root.apt_get().arg("update"))
            .with_context(|| format!("cannot fetch the package lists of Debian {suite}"))?;
        Ok(root)
    }

    fn write(&self, suite: &str, kind: Kind) -> Result<()> {
        for dir in ["parts", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.dir.join(dir))?;
        }
        fs::write(self.dir.join("status"), "")?;
        let here = codename()?;
        let target = Target { here: &here, suite, kind };
        let mut any = false;
        for file in source_files() {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let is_list = file.extension().is_some_and(|ext| ext == "list");
            let new =
                if is_list { target.rewrite_list(&text) } else { target.rewrite_deb822(&text) };
            if let (false, Some(name)) = (new.is_empty(), file.file_name()) {
                fs::write(self.dir.join("parts").join(name), new)?;
                any = true;
            }
        }
        if !any {
            bail!(
                "no source in /etc/apt is Debian's `{here}` with component `main`, so there is \
                 nothing to point at {suite}; use `lab --kernel BZIMAGE --modules DIR`"
            );
        }
        // apt reads APT_CONFIG first, then apt.conf.d, then `Dir::Etc::main`: only the last can
        // clear what apt.conf.d has set.
        let own = fs::read_to_string("/etc/apt/apt.conf").unwrap_or_default();
        let dir = self.dir.display();
        fs::write(self.dir.join("first.conf"), format!("Dir::Etc::main \"{dir}/main.conf\";\n"))?;
        let main = format!(
            "{own}
Dir::State \"{dir}\";
Dir::State::status \"{dir}/status\";
Dir::Cache \"{dir}/cache\";
Dir::Etc::sourcelist \"/dev/null\";
Dir::Etc::sourceparts \"{dir}/parts\";
APT::Sandbox::User \"root\";
APT::Update::Error-Mode \"any\";
Acquire::Languages \"none\";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"
        );
        Ok(fs::write(self.dir.join("main.conf"), main)?)
    }

    /// The files that `apt-get --print-uris ARGS` would fetch.
    pub fn uris(&self, args: &[&str]) -> Result<Vec<Uri>> {
        let out = command::run(self.apt_get().args(["--print-uris", "-y"]).args(args))?;
        Ok(parse_uris(&String::from_utf8_lossy(&out)))
    }

    /// Downloads `packages` into `dir`, checked against the signed lists.
    pub fn download(&self, packages: &[&str], dir: &Path) -> Result<()> {
        command::run(self.apt_get().arg("download").args(packages).current_dir(dir))?;
        Ok(())
    }

    /// Downloads one file to `target`, checked against its hash.
    pub fn fetch(&self, uri: &Uri, target: &Path) -> Result<()> {
        let Some(hash) = &uri.hash else {
            bail!("the archive's index has no hash for {}", uri.file);
        };
        let mut helper = Command::new(HELPER);
        helper.env("APT_CONFIG", self.dir.join("first.conf")).arg("download-file");
        command::run(helper.arg(&uri.address).arg(target).arg(hash))?;
        Ok(())
    }

    fn apt_get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        apt.env("APT_CONFIG", self.dir.join("first.conf")).env("LC_ALL", "C");
        apt
    }
}

/// This machine's suite.
pub fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let name = value.context("/etc/os-release has no VERSION_CODENAME; is this Debian?")?;
    Ok(name.trim_matches('"').to_owned())
}

fn source_files() -> Vec<PathBuf> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "list" || ext == "sources"))
        .collect();
    files.extend(Some(PathBuf::from("/etc/apt/sources.list")).filter(|path| path.exists()));
    files
}

/// Parses lines of `'URI' FILE SIZE [HASH]`; all else that apt prints is passed over.
fn parse_uris(text: &str) -> Vec<Uri> {
    let parse = |line: &str| {
        let (address, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut words = rest.split_whitespace();
        let file = words.next()?.to_owned();
        let hash = words.nth(1).map(str::to_owned);
        Some(Uri { address: address.to_owned(), file, hash })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_with_and_without_a_hash() {
        let text = "\
Reading package lists...
  linux-image-9 mount
'http://m.example/a%2bb_1.deb' a+b_1.deb 21521796 
'http://m.example/c.tar.xz' c.tar.xz 12 SHA256:ab12
";
        let uri = |address: &str, file: &str, hash: Option<&str>| Uri {
            address: address.to_owned(),
            file: file.to_owned(),
            hash: hash.map(str::to_owned),
        };
        assert_eq!(
            parse_uris(text),
            [
                uri("http://m.example/a%2bb_1.deb", "a+b_1.deb", None),
                uri("http://m.example/c.tar.xz", "c.tar.xz", Some("SHA256:ab12")),
            ]
        );
    }
}
