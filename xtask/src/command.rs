//! Calling other programs: quietly, and with their own last words when they fail.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output its error shows.
const LAST_WORDS: usize = 20;

/// Runs `command` to its end and returns what it printed on stdout.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{name}`: is it installed?"))?;
    if !out.status.success() {
        let mut said = out.stdout;
        said.extend(out.stderr);
        bail!("`{}` failed ({}):\n{}", line(command), out.status, last_lines(&said, LAST_WORDS));
    }
    Ok(out.stdout)
}

/// Runs `command` as a filter: `input` on its stdin, its stdout returned.
pub fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`: is it installed?"))?;
    let stdin = child.stdin.take();
    // Fed from a second thread, for a pipe's two ends can each wait for the other.
    let out = std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    })?;
    if !out.status.success() {
        bail!("`{name}` failed ({})", out.status);
    }
    Ok(out.stdout)
}

/// The last `count` lines of a program's output.
pub fn last_lines(output: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The program `name` in `PATH`, or in the places for administrators that some users' lack.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The top of this repository.
pub fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_the_last() {
        assert_eq!(last_lines(b"a\r\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines(b"a\n", 2), "a");
        assert_eq!(last_lines(b"", 2), "");
    }

    #[test]
    fn a_failed_program_is_quoted() {
        let result = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]));
        let text = result.err().map(|error| format!("{error:#}"));
        assert!(text.as_ref().is_some_and(|text| text.contains("no such thing")), "{text:?}");
    }

    #[test]
    fn a_filter_takes_more_than_a_pipe_holds() {
        let input = vec![b'x'; 1 << 20];
        let output = filter(&mut Command::new("cat"), &input);
        assert_eq!(output.map(|bytes| bytes.len()).ok(), Some(1 << 20));
    }
}
