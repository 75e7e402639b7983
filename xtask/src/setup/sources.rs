//! This machine's own Debian sources, pointed at another suite.
//!
//! That way setup reaches every suite through whatever mirror and proxy this machine uses, and
//! no host name has to be written down. Both formats of sources are rewritten as text, so that
//! every option in them (keys, architectures) stays as its owner wrote it.

/// What to fetch from a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `deb`
    Packages,
    /// `deb-src`
    Source,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Packages => "deb",
            Self::Source => "deb-src",
        }
    }
}

/// From which suite to which.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// This machine's suite, `VERSION_CODENAME` in os-release.
    pub here: &'a str,
    /// The suite wanted.
    pub suite: &'a str,
    /// What of it.
    pub kind: Kind,
}

impl Target<'_> {
    /// The wanted suite's name for one of this machine's. Nothing where it has no counterpart:
    /// `-updates` and the like are not needed, and sid has no `-security`.
    fn suite_for(&self, word: &str) -> Option<String> {
        match word.strip_prefix(self.here)? {
            "" => Some(self.suite.to_owned()),
            "-security" if self.suite != "sid" => Some(format!("{}-security", self.suite)),
            _ => None,
        }
    }

    /// Rewrites the format of `*.sources`: stanzas of fields. Empty if nothing in it is of use.
    pub fn rewrite_deb822(&self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let stanzas = lines.split(|line| line.trim().is_empty());
        stanzas.filter_map(|stanza| self.rewrite_stanza(stanza)).collect()
    }

    fn rewrite_stanza(&self, stanza: &[&str]) -> Option<String> {
        let types = format!("Types: {}", self.kind.word());
        let mut out = vec![types.as_str()];
        let mut suites = Vec::new();
        let mut is_main = false;
        for line in stanza {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "types" => {}
                "enabled" if value.trim() == "no" => return None,
                "suites" => suites.extend(value.split_whitespace().map(|w| self.suite_for(w))),
                "components" => is_main = value.split_whitespace().any(|word| word == "main"),
                _ => out.push(line),
            }
        }
        let suites: Vec<String> = suites.into_iter().flatten().collect();
        // A third party's archive may name Debian's suite as well; its components differ.
        (is_main && !suites.is_empty()).then(|| {
            let (fields, suites) = (out.join("\n"), suites.join(" "));
            format!("{fields}\nSuites: {suites}\nComponents: main\n\n")
        })
    }

    /// Rewrites the format of `*.list`: one source a line. Empty if nothing in it is of use.
    pub fn rewrite_list(&self, text: &str) -> String {
        text.lines().filter_map(|line| self.rewrite_line(line)).collect()
    }

    fn rewrite_line(&self, line: &str) -> Option<String> {
        let rest = line.trim().strip_prefix("deb")?;
        // `deb-src` lines repeat the `deb` lines.
        let rest = rest.strip_prefix(char::is_whitespace)?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (options, rest) = rest.split_once(']')?;
                (format!("[{options}] "), rest)
            }
            None => (String::new(), rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, self.suite_for(words.next()?)?);
        words
            .any(|word| word == "main")
            .then(|| format!("{} {options}{uri} {suite} main\n", self.kind.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIXIE: Target = Target { here: "bookworm", suite: "trixie", kind: Kind::Packages };
    const SID: Target = Target { here: "bookworm", suite: "sid", kind: Kind::Source };

    const SOURCES: &str = "\
Types: deb
# a remark
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/some.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://elsewhere.example/debian
Suites: bookworm
Components: stable
";

    #[test]
    fn stanzas_get_the_suite_and_keep_the_rest() {
        assert_eq!(
            TRIXIE.rewrite_deb822(SOURCES),
            "Types: deb\nURIs: http://mirror.example/debian\n\
             Signed-By: /usr/share/keyrings/some.gpg\nSuites: trixie\nComponents: main\n\n\
             Types: deb\nURIs: http://mirror.example/debian-security\n\
             Suites: trixie-security\nComponents: main\n\n"
        );
    }

    #[test]
    fn sid_has_neither_updates_nor_security() {
        let text = SID.rewrite_deb822(SOURCES);
        assert_eq!(text.matches("Suites: sid\n").count(), 1, "{text}");
        assert!(text.starts_with("Types: deb-src\n") && !text.contains("security"), "{text}");
    }

    #[test]
    fn a_disabled_stanza_stays_so() {
        assert_eq!(TRIXIE.rewrite_deb822("Suites: bookworm\nComponents: main\nEnabled: no\n"), "");
    }

    #[test]
    fn an_embedded_key_is_kept() {
        let text = "Suites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
        let out = TRIXIE.rewrite_deb822(text);
        assert!(out.contains("Signed-By:\n -----BEGIN\n .\n abc\n"), "{out}");
    }

    #[test]
    fn lines_get_the_suite_and_keep_the_rest() {
        let list = "\
# deb http://no.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main non-free
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb https://elsewhere.example/apt tool-bookworm main
";
        assert_eq!(
            TRIXIE.rewrite_list(list),
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main\n\
             deb http://mirror.example/debian-security trixie-security main\n"
        );
    }
}
