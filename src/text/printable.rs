//! Control characters, which can forge a line of a log or move a terminal's cursor, as what they are written as.

use std::borrow::Cow;

/// The same text on one line, with every control character escaped: `\n`, `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(
            printable("a\u{1b}[31mb\r\nINFO forged\u{7}\u{9b}2J"),
            r"a\u{1b}[31mb\r\nINFO forged\u{7}\u{9b}2J"
        );
        assert!(matches!(printable("öre \"x\" \\n"), Cow::Borrowed("öre \"x\" \\n")));
    }
}
