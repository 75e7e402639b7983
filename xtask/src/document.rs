//! Documents of this repository of which one section is written by a command.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command;

/// The document `file`, with `content` between the lines `<!-- SECTION: begin -->` and
/// `<!-- SECTION: end -->`; where it goes, and its text. Nothing is written yet.
pub fn renewed(file: &str, title: &str, section: &str, content: &str) -> Result<(PathBuf, String)> {
    let path = command::repository().join(file);
    let [begin, end] = ["begin", "end"].map(|what| format!("<!-- {section}: {what} -->"));
    let text = if path.exists() {
        fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?
    } else {
        format!("# {title}\n\n{begin}\n{end}\n")
    };
    let text = between(&text, &begin, &end, content)
        .with_context(|| format!("{} needs the lines `{begin}` and `{end}`", path.display()))?;
    Ok((path, text))
}

/// `text` with `content` between the two lines.
fn between(text: &str, begin: &str, end: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{content}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_alone_is_replaced() {
        let renewed = Some("a\nB\n| new |\nE\nz\n".to_owned());
        assert_eq!(between("a\nB\nold\nE\nz\n", "B", "E", "| new |\n"), renewed);
        assert_eq!(between("a\nB\n| new |\nE\nz\n", "B", "E", "| new |\n"), renewed);
        assert_eq!(between("no such lines", "B", "E", "| new |\n"), None);
    }
}
