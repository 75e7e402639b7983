//! Text from somebody else's file, made harmless.

use std::fmt;

/// Text without what would steer a terminal, hide or turn round what a person reads, or be illegal
/// in XML or HTML: such characters stand there by their numbers. Never longer than a line or so.
///
/// What means something in a format, as `<` does, is left for that format's writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Plain(Box<str>);

impl Plain {
    /// Longer text is cut. In bytes.
    const LONGEST: usize = 500;

    /// Makes text harmless.
    pub(super) fn of(text: &str) -> Self {
        let mut plain = String::with_capacity(text.len().min(Self::LONGEST));
        for c in text.chars() {
            if plain.len() >= Self::LONGEST {
                plain.push('…');
                break;
            }
            if is_harmful(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
        }
        Self(plain.into())
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Control characters; those that turn the direction of text, or have no width (of Unicode's
/// Bidi_Control and Default_Ignorable_Code_Point those that belong to no script); separators of
/// lines; and what is no character at all.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_stands_there_by_its_number() {
        let hostile = "a\x1b[31mb\u{202e}c\nd\u{9b}\u{fffe}\0";
        assert_eq!(Plain::of(hostile).as_str(), r"a\u{1b}[31mb\u{202e}c\nd\u{9b}\u{fffe}\u{0}");
    }

    #[test]
    fn what_only_formats_care_about_is_left_alone() {
        let text = "</script> & \"quotes\" 'n' größer, 日本 ✓ ]]>";
        assert_eq!(Plain::of(text).as_str(), text);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let cut = Plain::of(&"ä".repeat(1 << 20));
        assert!(cut.as_str().ends_with("ä…") && cut.as_str().len() < Plain::LONGEST + 10);
    }
}
