//! Text from files, programs and other machines as it may be shown: a character that steers a terminal, or that makes a
//! text look like another one, is shown as its escape, `\u{1b}`.

use std::borrow::Cow;

/// Whether a character steers a terminal or the direction of a text rather than being seen: C0, DEL, C1, and what
/// Unicode calls bidirectional controls, separators of lines, and marks without width that hide.
pub fn is_control(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}

/// The text as part of one line: line breaks and tabs are escaped, too.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_control)
}

/// The text as separate lines, whose breaks and tabs stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| {
        is_control(character) && !matches!(character, '\n' | '\t')
    })
}

/// The text with its lines below the first one indented, so that none of them passes for a line of ours.
pub fn indented(text: &str, by: &str) -> String {
    visible_lines(text.trim_end()).replace('\n', &format!("\n{by}"))
}

/// Serialised JSON as it may be shown. The format lets characters beyond ASCII stand as they are; where they steer a
/// terminal they get the other form that it allows.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    // What JSON itself forbids in strings can only stand between values.
    let steers =
        |character: char| is_control(character) && !matches!(character, '\n' | '\r' | '\t');
    rewritten(text, steers, |character, shown| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    rewritten(text, hidden, |character, shown| {
        shown.extend(character.escape_default());
    })
}

/// The text with some characters written otherwise. Most texts have none of them and are not copied.
fn rewritten(
    text: &str,
    hidden: impl Fn(char) -> bool,
    write: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if hidden(character) {
            write(character, &mut shown);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_as_its_escape() {
        let cases = [
            ("plain, grün, 漢字, 🚀", "plain, grün, 漢字, 🚀"),
            ("\u{1b}]52;c;eA==\u{7}", "\\u{1b}]52;c;eA==\\u{7}"),
            ("a\u{9b}31mb\u{7f}", "a\\u{9b}31mb\\u{7f}"),
            ("x\u{202e}gpj.exe\u{2066}", "x\\u{202e}gpj.exe\\u{2066}"),
            ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ];
        for (text, shown) in cases {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("two\nlines\tand\r\n"), "two\nlines\tand\\r\n");
        assert_eq!(
            indented("first\nsecond\u{8}\n", "    "),
            "first\n    second\\u{8}"
        );
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(is_control));
            prop_assert!(!visible_lines(&text).chars().any(|one| is_control(one) && one != '\n' && one != '\t'));
        }

        #[test]
        fn json_keeps_its_value(text in any::<String>()) {
            let written = serde_json::Value::from(text.as_str()).to_string();
            let shown = visible_json(&written);
            prop_assert!(!shown.chars().any(is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
