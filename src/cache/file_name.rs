//! Names as parts of paths. The map is one-to-one by construction: it is the identity but for characters that cannot stand
//! in a name of a file or would show as something else, which are escaped as `%XX`, and the percent sign is escaped as
//! well; what is too long is cut and ends in a digest of the whole behind `%~`, which no escape gives.

use std::fmt::Write;

use stages::artifact::Digest;

/// Longer names are cut. File systems take 255 bytes, and something may be put before or behind a name.
const LONGEST: usize = 200;

/// Endings up to this length stay with a name that is cut, so that programs know the file.
const LONGEST_ENDING: usize = 16;

/// Hexadecimal digits of the digest behind a name that was cut.
const DIGITS: usize = 32;

/// The part of a path that stands for a name, whatever the name holds. Different names have different parts.
pub fn file_name(name: &str) -> String {
    if name.is_empty() {
        // Nothing else gives a percent sign without digits.
        return "%".to_owned();
    }
    let last = name.char_indices().next_back().map_or(0, |(place, _)| place);
    let mut part = String::with_capacity(name.len());
    for (place, character) in name.char_indices() {
        // `.` and `..` are folders, and some systems drop dots and blanks at an end.
        let is_dropped = place == last && (character == '.' || character == ' ');
        if is_dropped || must_be_escaped(character) {
            escape(character, &mut part);
        } else {
            part.push(character);
        }
    }
    if part.len() <= LONGEST { part } else { cut(&part, name) }
}

/// Where the files of a stage's output belong, below a folder of a whole run. An output that is one file has its ending behind
/// it, so that no dot stands in an output's own name.
pub fn output_path(stage: &str, output: &str) -> String {
    format!("{}/{}", file_name(stage), file_name(output).replace('.', "%2E"))
}

/// A relative path with `/` between its parts, each of which is written as [`file_name`] says.
pub fn file_path(path: &str) -> String {
    path.split('/').map(file_name).collect::<Vec<_>>().join("/")
}

/// What leads elsewhere, cannot be seen, or changes the direction of the text around it.
fn must_be_escaped(character: char) -> bool {
    matches!(
        character,
        '/' | '\\' | '%' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    ) || character.is_control()
}

fn escape(character: char, into: &mut String) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(into, "%{byte:02X}");
    }
}

/// As much of the part as fits, a digest of the whole name, and the ending.
fn cut(part: &str, name: &str) -> String {
    let ending = part.rsplit_once('.').map(|(_, ending)| ending);
    let is_plain = |ending: &&str| {
        ending.len() < LONGEST_ENDING && !ending.is_empty() && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let ending = ending.filter(is_plain).map_or_else(String::new, |ending| format!(".{ending}"));
    let mut end = LONGEST - "%~".len() - DIGITS - ending.len();
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    let digest = Digest::of_bytes(name.as_bytes()).to_string();
    format!("{}%~{}{ending}", &part[..end], &digest[..DIGITS])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["scores", "it[machine=m-1,lr=1.0e-2]", "Grüße 1.txt", ".hidden", "a~", "it[v=\"a\"]#7,seed=2"] {
            assert_eq!(file_name(name), name);
        }
        assert_eq!(file_name("it[v=a/b]"), "it[v=a%2Fb]");
        assert_eq!(["", ".", "..", "a.", "a ", "100%"].map(file_name), ["%", "%2E", ".%2E", "a%2E", "a%20", "100%25"]);
        assert_eq!(file_name("a\u{1b}[31m\u{202e}"), "a%1B[31m%E2%80%AE");
        assert_eq!(file_path("a/b%/.."), "a/b%25/.%2E");
        assert_eq!(output_path("it[v=a/b]", "log.parquet"), "it[v=a%2Fb]/log%2Eparquet");
    }

    #[test]
    fn long_names_keep_their_beginning_and_their_ending() {
        let (one, other) = (format!("{}1.png", "é".repeat(300)), format!("{}2.png", "é".repeat(300)));
        let (first, second) = (file_name(&one), file_name(&other));
        assert!(first != second && first.starts_with("éé") && first.ends_with(".png"), "{first}");
        assert!(first.len() <= LONGEST && file_name(&"/".repeat(5000)).len() <= LONGEST);
        // What a name is cut to is the part of no other name.
        assert_ne!(file_name(&first), first);
    }

    proptest! {
        #[test]
        fn different_names_are_different_parts(names in proptest::collection::vec(hostile_name(), 2..40)) {
            let mut parts: BTreeMap<String, String> = BTreeMap::new();
            for name in names {
                let part = file_name(&name);
                prop_assert!(!part.is_empty() && part.len() <= 255 && part != "." && part != "..");
                prop_assert!(!part.contains(['/', '\\', '\0', '\n']));
                let known = parts.insert(part, name.clone());
                prop_assert!(known.is_none_or(|known| known == name));
            }
        }
    }

    proptest! {
        /// An output with an ending of ours behind it is the folder of no other.
        #[test]
        fn different_files_of_outputs_are_different_paths(
            files in proptest::collection::vec((hostile_name(), hostile_name(), hostile_name()), 2..20)
        ) {
            let mut paths = BTreeMap::new();
            for (stage, output, inner) in files {
                let folder = output_path(&stage, &output);
                for (path, what) in [
                    (format!("{folder}/{}", file_name(&inner)), (stage.clone(), output.clone(), Some(inner))),
                    (format!("{folder}.parquet"), (stage, output, None)),
                ] {
                    prop_assert_eq!(path.split('/').count(), if what.2.is_some() { 3 } else { 2 });
                    if let Some(known) = paths.insert(path, what.clone()) {
                        prop_assert_eq!(known, what);
                    }
                }
            }
            // No file is a folder of another.
            for path in paths.keys() {
                let is_folder = paths.keys().any(|other| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')));
                prop_assert!(!is_folder, "{path}");
            }
        }
    }

    /// Names made of what is escaped, of what escapes look like, and of long repetitions.
    fn hostile_name() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "a", "A", "/", "\\", "%", "%2F", "%~", ".", "..", " ", "_", "\0", "\n", "é", "e\u{301}", "2F",
                "\u{202e}", ".png",
            ])
            .prop_map(str::to_owned),
            (1_usize..300).prop_map(|count| "x".repeat(count)),
            ".{0,3}",
        ];
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }
}
