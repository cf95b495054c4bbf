//! What may reach a terminal. Text that an agent or a server wrote can hold sequences that retitle the window, move the
//! cursor, or hide a link: they are shown escaped, and only TAB and SGR colours pass.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest colour sequence that passes.
const MAX_SGR: usize = 64;
const RESET: &str = "\u{1b}[0m";

/// A line of output as it may reach a terminal: C0 and C1 controls are escaped, but TAB and SGR colours. Colours end with
/// the line.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, Keep::TabAndColours)
}

/// A cell of a table as it may reach a terminal: every control is escaped.
pub fn cell(text: &str) -> Cow<'_, str> {
    shown(text, Keep::Nothing)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    TabAndColours,
    Nothing,
}

fn shown(text: &str, keep: Keep) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut coloured = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let colour = if keep == Keep::TabAndColours { sgr(rest) } else { None };
        if let Some(colour) = colour {
            out.push_str(colour);
            coloured = !matches!(colour, "\u{1b}[m" | RESET);
            rest = &rest[colour.len()..];
            continue;
        }
        match next {
            '\t' if keep == Keep::TabAndColours => out.push(next),
            control if control.is_control() => escape(control, &mut out),
            plain => out.push(plain),
        }
        rest = &rest[next.len_utf8()..];
    }
    if coloured {
        out.push_str(RESET);
    }
    Cow::Owned(out)
}

/// The SGR sequence (`ESC [ digits ; : m`) that the text begins with.
fn sgr(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters
        .bytes()
        .take(MAX_SGR)
        .position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'))?;
    (parameters.as_bytes()[end] == b'm').then(|| &text[..end + 3])
}

fn escape(control: char, out: &mut String) {
    match control {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Writing to a `String` cannot fail.
        other => drop(write!(out, "\\x{:02x}", u32::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table() {
        for (text, expected) in [
            ("plain é 漢", "plain é 漢"),
            ("a\tb", "a\tb"),
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m"),
            ("\u{1b}[1;38:5:8mx", "\u{1b}[1;38:5:8mx\u{1b}[0m"),
            ("\u{1b}[mx", "\u{1b}[mx"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("\u{1b}]8;;http://x\u{1b}\\l", "\\x1b]8;;http://x\\x1b\\l"),
            ("\u{1b}[2J\u{1b}[1;1H", "\\x1b[2J\\x1b[1;1H"),
            ("\u{1b}[?25l", "\\x1b[?25l"),
            ("\u{1b}[31", "\\x1b[31"),
            ("\u{1b}[>4m", "\\x1b[>4m"),
            ("\u{9b}31m\u{9d}0;t\u{9c}", "\\x9b31m\\x9d0;t\\x9c"),
            ("\u{1b}\u{1b}[31mx", "\\x1b\u{1b}[31mx\u{1b}[0m"),
            ("a\rb\nc\u{8}\u{7f}\0", "a\\rb\\nc\\x08\\x7f\\x00"),
        ] {
            assert_eq!(line(text), expected, "{text:?}");
        }
        assert_eq!(cell("\u{1b}[31ma\tb"), "\\x1b[31ma\\tb");
    }

    #[test]
    fn endless_colours_do_not_pass() {
        assert!(line(&format!("\u{1b}[{}m", "1".repeat(MAX_SGR))).starts_with("\\x1b"));
    }

    /// Texts rich in what matters here.
    fn nasty() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "\u{1b}", "[", "]", "31", ";", "m", "H", "\t", "\n", "\r", "\u{9b}", "\u{7}", "a", "é", "0", "\u{7f}", ":",
        ]);
        prop_oneof![
            prop::collection::vec(parts, 0..40).prop_map(|parts| parts.concat()),
            any::<String>()
        ]
    }

    proptest! {
        #[test]
        fn only_tabs_and_colours_are_left(text in nasty()) {
            let shown = line(&text);
            let mut rest = &*shown;
            while let Some(next) = rest.chars().next() {
                let step = match sgr(rest) {
                    Some(colour) => colour.len(),
                    None => {
                        prop_assert!(next == '\t' || !next.is_control(), "{shown:?}");
                        next.len_utf8()
                    }
                };
                rest = &rest[step..];
            }
        }

        #[test]
        fn cells_hold_no_control(text in nasty()) {
            prop_assert!(!cell(&text).chars().any(char::is_control));
        }

        #[test]
        fn what_is_plain_stays(text in "[^\\p{Cc}]*") {
            prop_assert_eq!(&*line(&text), &*text);
        }
    }
}
