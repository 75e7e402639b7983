//! The corpus' files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// A file of so many bytes is packed.
const LARGE: usize = 10_000;
/// How many bytes all files may have.
const MOST: usize = 1_500_000;
/// What stays when the rest is renewed.
const README: &str = "README.md";

/// A file as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Below `tests/corpus/logs`.
    path: PathBuf,
    bytes: Vec<u8>,
}

/// `file`, to be stored in `directory`, packed if it is large and gets less than half as large. Each
/// kind of file is packed in its own way, so that every way is there.
pub fn pack(file: &Path, directory: &Path) -> Result<Stored> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let path = directory.join(file.file_name().unwrap_or_default());
    let kind = file.extension().and_then(|extension| extension.to_str());
    let (program, options, suffix): (_, &[&str], _) = match kind {
        // Without the time.
        Some("txt") => ("gzip", &["-9cn"], "gz"),
        Some("dat") => ("zstd", &["-q19c"], "zst"),
        _ => ("xz", &["-9c"], "xz"),
    };
    if bytes.len() > LARGE {
        let packed = command::filter(Command::new(program).args(options), &bytes)?;
        if packed.len() < bytes.len() / 2 {
            return Ok(Stored { path: path.with_added_extension(suffix), bytes: packed });
        }
    }
    Ok(Stored { path, bytes })
}

/// Puts `files` in the place of all that is in `tests/corpus/logs`.
pub fn write(files: &[Stored]) -> Result<()> {
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    if total > MOST {
        let mut files: Vec<_> =
            files.iter().map(|file| (file.bytes.len(), file.path.display())).collect();
        files.sort_by_key(|(size, _)| *size);
        let largest: Vec<String> =
            files.iter().rev().take(20).map(|(size, path)| format!("{size:>8} {path}")).collect();
        bail!("the corpus would have {total} bytes, more than {MOST}:\n{}", largest.join("\n"));
    }
    let logs = command::repository().join("tests/corpus/logs");
    for entry in fs::read_dir(&logs).with_context(|| format!("no {}", logs.display()))? {
        let entry = entry?;
        if entry.file_name() != README {
            fs::remove_dir_all(entry.path())?;
        }
    }
    for Stored { path, bytes } in files {
        let path = logs.join(path);
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(&logs)).with_context(cannot)?;
        fs::write(&path, bytes).with_context(cannot)?;
    }
    println!("written: tests/corpus/logs ({} files, {total} bytes)", files.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;

    #[test]
    fn large_files_are_packed_by_kind() -> Result<()> {
        let scratch = Cache::open()?.scratch("store-test")?;
        let stored = |name: &str, size: usize| {
            let file = scratch.path().join(name);
            fs::write(&file, vec![b'a'; size])?;
            let Stored { path, bytes } = pack(&file, Path::new("cell"))?;
            Ok::<_, anyhow::Error>((path.display().to_string(), bytes.len() < size))
        };
        assert_eq!(stored("trace.txt", LARGE)?, ("cell/trace.txt".to_owned(), false));
        assert_eq!(stored("trace.txt", LARGE + 1)?, ("cell/trace.txt.gz".to_owned(), true));
        assert_eq!(stored("trace.v6.dat", LARGE + 1)?, ("cell/trace.v6.dat.zst".to_owned(), true));
        assert_eq!(stored("perf.data", LARGE + 1)?, ("cell/perf.data.xz".to_owned(), true));
        Ok(())
    }
}
